// A person's client: matrix-js-sdk with its Rust crypto, told what to do by JSON lines and telling what it sees so.
// A line in is {"id": 1, "do": "say", …}; a line out {"id": 1, "result": …}, {"id": 1, "error": …} or {"event": …}.
// It ends when its input does.

import { createInterface } from "node:readline";

// What is written to the console is for developers; the output belongs to the protocol.
const aside = (...words) => process.stderr.write(`${words.map(String).join(" ")}\n`);
for (const name of ["trace", "debug", "log", "info", "warn", "error"]) console[name] = aside;
const tell = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

Promise.withResolvers ??= () => {
  let resolve, reject;
  const promise = new Promise((yes, no) => ([resolve, reject] = [yes, no]));
  return { promise, resolve, reject };
};

const sdk = await import("matrix-js-sdk");
const { OnlySignedDevicesIsolationMode, AllDevicesIsolationMode } = await import("matrix-js-sdk/lib/crypto-api/index.js");
const { PollResponseEvent } = await import("matrix-js-sdk/lib/extensible_events_v1/PollResponseEvent.js");

let client;

const show = (event) =>
  tell({
    event: {
      event_id: event.getId(),
      room: event.getRoomId(),
      sender: event.getSender(),
      type: event.getType(),
      state_key: event.getStateKey() ?? null,
      content: event.getContent(),
      encrypted: event.isEncrypted(),
      failure: event.isDecryptionFailure() ? event.decryptionFailureReason : null,
    },
  });

const until = (emitter, name, condition) =>
  new Promise((resolve) => {
    const look = async () => {
      if (await condition()) {
        emitter.off(name, look);
        resolve();
      }
    };
    emitter.on(name, look);
    look();
  });

const deeds = {
  async start({ url, user_id, device_id, token, only_signed }) {
    client = sdk.createClient({ baseUrl: url, userId: user_id, deviceId: device_id, accessToken: token });
    await client.initRustCrypto({ useIndexedDB: false });
    const crypto = client.getCrypto();
    crypto.setDeviceIsolationMode(
      only_signed ? new OnlySignedDevicesIsolationMode() : new AllDevicesIsolationMode(false),
    );
    client.on(sdk.RoomEvent.Timeline, show);
    client.on(sdk.MatrixEventEvent.Decrypted, show);
    await client.startClient({ initialSyncLimit: 100 });
    await until(client, sdk.ClientEvent.Sync, () => client.isInitialSyncComplete());
    await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys: (request) => request(null) });
    // The device gives keys to nobody before it has read back its own signature.
    await until(client, sdk.ClientEvent.Sync, async () => {
      await crypto.userHasCrossSigningKeys(user_id, true);
      return (await crypto.getDeviceVerificationStatus(user_id, device_id))?.signedByOwner;
    });
  },

  async direct({ user_id }) {
    const encryption = { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } };
    const { room_id } = await client.createRoom({
      preset: sdk.Preset.TrustedPrivateChat,
      invite: [user_id],
      is_direct: true,
      initial_state: [encryption],
    });
    await until(client, sdk.ClientEvent.Room, () => client.getRoom(room_id));
    return room_id;
  },

  async join({ room }) {
    await client.joinRoom(room);
  },

  async say({ room, words }) {
    return (await client.sendTextMessage(room, words)).event_id;
  },

  // The library's own understanding of a room's polls: what they ask, whether they are over.
  async polls({ room }) {
    return [...client.getRoom(room).polls.values()].map((poll) => ({
      event_id: poll.pollId,
      question: poll.pollEvent.question.text,
      answers: poll.pollEvent.answers.map((answer) => [answer.id, answer.text]),
      most: poll.pollEvent.maxSelections,
      disclosed: sdk.M_POLL_KIND_DISCLOSED.matches(poll.pollEvent.kind.name),
      over: poll.isEnded,
    }));
  },

  async answer({ room, poll, ids }) {
    const { type, content } = PollResponseEvent.from(ids, poll).serialize();
    return (await client.sendEvent(room, type, content)).event_id;
  },

  async trusts({ user_id, device_id }) {
    const crypto = client.getCrypto();
    await crypto.getUserDeviceInfo([user_id], true);
    return (await crypto.getDeviceVerificationStatus(user_id, device_id))?.signedByOwner ?? false;
  },
};

const input = createInterface({ input: process.stdin });
input.on("close", () => process.exit(0));
input.on("line", async (line) => {
  const { id, do: name, ...details } = JSON.parse(line);
  try {
    tell({ id, result: (await deeds[name](details)) ?? null });
  } catch (error) {
    tell({ id, error: String(error?.stack ?? error) });
  }
});
