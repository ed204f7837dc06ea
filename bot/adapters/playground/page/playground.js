"use strict";
// The page of the playground. What it shows comes from /api/state, and then as events; words become text nodes, and
// markup is built from the tree the server sends: nothing is ever parsed as HTML here.

const KEYCAPS = ["1️⃣", "2️⃣", "3️⃣", "4️⃣", "5️⃣", "6️⃣", "7️⃣", "8️⃣", "9️⃣", "🔟"];
const TAGS = new Set(["b", "i", "u", "s", "code", "pre", "a", "blockquote"]);
const KEPT = 300; // messages of a chat that are on the page at once, however long one looks or pages back
const RIGHT_TO_LEFT = /^(ar|ckb|dv|fa|he|ps|sd|ug|ur|yi)\b/;
const OPENING = [["anna", 0], ["rosa", "group"], ["ben", 0]];

let words = {}, locale = "de", home = "de", run = "", people = [], names = {}, menu = [], chats = new Map(), panes = [];
let ahead = 0, look = stored("look") || "telegram";

// -- small things --------------------------------------------------------------------------------------------

function stored(key) {
  try { return localStorage.getItem(`labbot.${key}`); } catch { return null; }
}

function store(key, value) {
  try { localStorage.setItem(`labbot.${key}`, value); } catch { /* then it is not kept */ }
}

function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && typeof value !== "string") node[name] = value;
    else node.setAttribute(name === "className" ? "class" : name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function word(key, values = {}) {
  return (words[key] || key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

function rich(nodes) {
  return nodes.map((node) => {
    if (typeof node === "string") return document.createTextNode(node);
    if (!TAGS.has(node.tag)) return el("span", {}, ...rich(node.children));
    const made = el(node.tag, {}, ...rich(node.children));
    if (node.href) Object.assign(made, { href: node.href, target: "_blank", rel: "noopener noreferrer" });
    return made;
  });
}

function plain(nodes) {
  return nodes.map((node) => (typeof node === "string" ? node : plain(node.children))).join("");
}

let last = Promise.resolve(); // what people do arrives in the order they did it
function post(path, data) {
  last = last.then(() => deliver(path, data));
  return last;
}

async function deliver(path, data) {
  try {
    const answer = await fetch(`api/${path}`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(data),
    });
    if (!answer.ok) trouble(word("refused"));
    return answer.ok ? await answer.json() : null;
  } catch {
    trouble(word("lost"));
    return null;
  }
}

function trouble(text) {
  const line = document.getElementById("trouble");
  line.textContent = text;
  line.hidden = !text;
}

// -- what has been read --------------------------------------------------------------------------------------

const readKey = (person, chat) => `read.${run}.${person}.${chat}`;
const read = (person, chat) => Number(stored(readKey(person, chat)) || 0);

function markRead(person, chat, upto) {
  if (upto > read(person, chat)) {
    store(readKey(person, chat), upto);
    return true;
  }
  return false;
}

const unread = (person, chat) => Math.max(0, chats.get(chat).total - read(person, chat));

// -- a window: one person's view of one chat -----------------------------------------------------------------

class Pane {
  constructor(number) {
    this.number = number;
    this.node = document.getElementById("pane").content.firstElementChild.cloneNode(true);
    this.find = (name) => this.node.querySelector(`.${name}`);
    this.thread = this.find("thread");
    this.field = this.node.querySelector("textarea");
    this.shown = new Map();
    this.replyTo = this.editing = null;
    this.asks = 0;
    const [person, chat] = (stored(`pane.${number}`) || "").split("|");
    const [first, which] = OPENING[number];
    this.person = people.find((one) => one.id === person) || people.find((one) => one.id === first) || people[0];
    this.chat = this.person.chats.includes(chat) ? chat
      : which === "group" ? this.person.chats.find((id) => id !== `p-${this.person.id}` && chats.get(id).total > 2)
        || this.person.chats[0] : this.person.chats[0];
    this.find("compose").addEventListener("submit", (event) => { event.preventDefault(); this.send(); });
    this.field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); this.send(); }
      if (event.key === "Escape") this.about(null, null);
    });
    this.find("leave").addEventListener("click", () => { this.about(null, null); this.field.focus(); });
    this.find("write").addEventListener("click", (event) => { event.preventDefault(); this.field.focus(); });
    this.find("commands").addEventListener("click", () => this.showMenu(this.find("menu").hidden));
    this.thread.addEventListener("scroll", () => this.look(), { passive: true });
    document.getElementById("panes").append(this.node);
  }

  get visible() { return this.node.offsetParent !== null && document.visibilityState === "visible"; }
  get atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.thread;
    return !chats.get(this.chat).past && scrollHeight - scrollTop - clientHeight < 40;
  }

  open(person, chat) {
    this.person = person;
    this.chat = chat;
    store(`pane.${this.number}`, `${person.id}|${chat}`);
    this.about(null, null);
    this.find("note").textContent = "";
    this.showMenu(false);
    this.draw();
    this.toNewest();
  }

  draw() {
    const chat = chats.get(this.chat), from = read(this.person.id, this.chat);
    this.node.setAttribute("aria-label", `${word("window")} ${this.number + 1}`);
    this.find("eyes").setAttribute("aria-label", word("eyes"));
    this.find("chats").setAttribute("aria-label", word("chats"));
    this.thread.setAttribute("aria-label", `${word("thread")}: ${this.title(chat)}`);
    this.field.setAttribute("aria-label", word("message", { name: this.person.name }));
    this.field.placeholder = word("message", { name: this.person.name });
    this.find("send").textContent = word("send");
    this.find("leave").textContent = word("leave");
    this.find("write").textContent = word("write");
    this.find("commands").setAttribute("aria-label", word("commands"));
    this.drawTabs();
    this.shown.clear();
    this.thread.setAttribute("aria-busy", "true");
    this.thread.replaceChildren();
    if (!chat.messages.length) this.thread.append(el("p", { className: "empty" }, word("empty")));
    for (const message of chat.messages) {
      if (message.place === from && from > 0) {
        this.thread.append(el("p", { className: "new", role: "separator" }, word("new")));
      }
      this.thread.append(this.article(message));
    }
    this.ends();
    this.thread.scrollTop = this.thread.scrollHeight;
    this.thread.removeAttribute("aria-busy");
    this.look();
  }

  title(chat) { return chat.title || word("private"); }

  drawTabs() {
    const focused = document.activeElement, key = this.node.contains(focused) ? focused.dataset.key : undefined;
    const badge = (count) => count ? el("span", { className: "badge" }, String(count > 99 ? "99+" : count),
      el("span", { className: "skip" }, ` ${word("unread")}`)) : null;
    this.find("eyes").replaceChildren(...people.map((person) => el("button", {
      type: "button", "aria-pressed": String(person === this.person), "data-key": `eyes ${person.id}`, lang: locale,
      onclick: () => this.open(person, person.chats.includes(this.chat) ? this.chat : person.chats[0]),
    }, person.name, el("small", {}, ` ${person.locale}${person.organiser ? `, ${word("organiser")}` : ""}`),
    badge(person.chats.reduce((sum, chat) => sum + unread(person.id, chat), 0)))));
    this.find("chats").replaceChildren(...this.person.chats.map((id) => el("button", {
      type: "button", "aria-pressed": String(id === this.chat), "data-key": `chat ${id}`,
      onclick: () => this.open(this.person, id),
    }, this.title(chats.get(id)), badge(unread(this.person.id, id)))));
    if (key) [...this.node.querySelectorAll("[data-key]")].find((node) => node.dataset.key === key)?.focus();
  }

  look() {
    if (this.visible && this.atEnd && markRead(this.person.id, this.chat, chats.get(this.chat).total)) later(drawAllTabs);
  }

  ends() { // the way on, where a chat goes on beyond the page
    const chat = chats.get(this.chat);
    const way = (name, there, put, label, onclick) => {
      const button = this.find(name);
      if (!there) button?.remove();
      else if (!button) this.thread[put](el("button", { type: "button", className: `further ${name}`, onclick }, label));
    };
    way("older", chat.messages[0]?.place > 0, "prepend", word("older"), ({ target }) => this.older(target));
    way("newest", chat.past, "append", word("newest"), () => sync().then(() => this.thread.focus()));
  }

  async older(button) {
    const id = this.chat, chat = chats.get(id);
    button.disabled = true;
    const answer = await fetch(`api/chats/${encodeURIComponent(id)}/messages?before=${chat.messages[0].place}`)
      .then((found) => found.ok ? found.json() : null).catch(() => null);
    if (!answer) { button.disabled = false; return; }
    const first = chat.messages[0]?.place ?? 0;
    const added = answer.messages.filter((message) => message.place < first);
    chat.messages.unshift(...added);
    const dropped = chat.messages.splice(KEPT);
    if (dropped.length) chat.past = true;
    for (const pane of panes.filter((one) => one.chat === id)) {
      pane.prepend(added);
      pane.trim(dropped);
    }
  }

  prepend(messages) {
    const focused = this.thread.querySelector(".older") === document.activeElement;
    const height = this.thread.scrollHeight - this.thread.scrollTop;
    this.thread.setAttribute("aria-busy", "true");
    this.thread.querySelector(".older")?.remove();
    this.thread.prepend(...messages.map((message) => this.article(message)));
    this.ends();
    this.thread.scrollTop = this.thread.scrollHeight - height;
    this.thread.removeAttribute("aria-busy");
    if (focused) (this.thread.querySelector(".older") || this.thread).focus({ preventScroll: true });
  }

  show(message, fresh) {
    const old = this.shown.get(message.id), stay = this.atEnd || message.author === this.person.id;
    if (old) {
      const inside = old.contains(document.activeElement);
      const place = inside ? [...old.querySelectorAll("button, a")].indexOf(document.activeElement) : -1;
      const made = this.article(message);
      old.replaceWith(made);
      if (inside) (made.querySelectorAll("button, a")[place] || made).focus({ preventScroll: true });
    } else if (fresh) {
      this.thread.querySelector(".empty")?.remove();
      const made = this.article(message);
      made.classList.add("fresh");
      this.thread.append(made);
      if (message.question && !this.field.value && this.quoted(message)?.author === this.person.id) {
        this.about("reply", message);
      }
    }
    if (stay) this.thread.scrollTop = this.thread.scrollHeight;
    this.look();
  }

  trim(dropped) {
    for (const message of dropped) {
      this.shown.get(message.id)?.remove();
      this.shown.delete(message.id);
    }
    this.ends();
  }

  quoted(message) {
    return message.reply_to && chats.get(this.chat).messages.find((one) => one.id === message.reply_to && !one.gone);
  }

  language({ author, chat }) { // people write in theirs, the bot in that of the chat
    const person = people.find((one) => author === null ? chat === `p-${one.id}` : one.id === author);
    return person ? person.locale : home;
  }

  article(message) {
    const mine = message.author === this.person.id;
    const who = message.author === null ? "labbot" : names[message.author] || message.author;
    const made = el("article", {
      className: mine ? "mine" : "", tabindex: "-1", "data-message": message.id, lang: this.language(message),
    });
    this.shown.set(message.id, made);
    const when = new Intl.DateTimeFormat(locale, { dateStyle: "short", timeStyle: "short" }).format(new Date(message.at));
    made.append(el("p", { className: "who", lang: locale }, el("b", {}, who), ` ${when}`,
      message.version && !message.gone ? ` · ${word("edited")}` : ""));
    const bubble = el("div", { className: "bubble" });
    made.append(bubble);
    if (message.gone) {
      bubble.append(el("span", { className: "gone", lang: locale }, word("gone")));
      return made;
    }
    const quoted = this.quoted(message);
    if (quoted) bubble.append(el("p", { className: "quoted", dir: "auto" }, plain(quoted.body).slice(0, 120)));
    bubble.append(el("div", { className: "body", dir: "auto" }, ...rich(message.body)));
    if (message.file) {
      const href = `api/chats/${encodeURIComponent(message.chat)}/files/${message.id}`;
      bubble.append(el("p", {}, el("a", { href, download: message.file }, word("file", { name: message.file }))));
    }
    if (message.buttons.length) this.choices(message, made, bubble);
    made.append(this.acts(message, mine));
    return made;
  }

  choices(message, made, bubble) {
    const press = (button, position) => () => {
      this.find("note").textContent = "";
      if (button.start) {
        this.open(this.person, this.person.chats[0]);
        post("say", { person: this.person.id, chat: this.chat, text: `/start ${button.start}` });
      } else {
        post("press", {
          person: this.person.id, chat: message.chat, message: message.id, position, revision: message.revision,
        }).then(() => this.toNewest());
      }
    };
    const link = (button, ...inside) => el("a", { href: button.url, target: "_blank", rel: "noopener noreferrer" }, ...inside);
    const safe = (button) => button.url && /^https?:/i.test(button.url);
    if (look === "telegram") {
      made.append(el("div", { className: "choices" }, ...message.buttons.map((button, position) => safe(button)
        ? link(button, button.label) : el("button", { type: "button", dir: "auto", onclick: press(button, position) }, button.label))));
      return;
    }
    bubble.append(el("ol", { className: "lines" }, ...message.buttons.map((button, position) =>
      el("li", { dir: "auto" }, `${position + 1}. `, safe(button) ? link(button, button.label) : button.label))));
    made.append(el("div", { className: "choices reactions" }, ...message.buttons.slice(0, KEYCAPS.length).map(
      (button, position) => safe(button) ? null : el("button", {
        type: "button", onclick: press(button, position), title: button.label,
        "aria-label": word("react", { number: position + 1, label: button.label }),
      }, KEYCAPS[position]))));
  }

  acts(message, mine) {
    const act = (key, run) => el("button", { type: "button", onclick: run }, word(key));
    const line = el("div", { className: "acts", lang: locale });
    if (!mine) line.append(act("reply", () => this.about("reply", message)));
    if (mine) {
      line.append(act("edit", () => this.about("edit", message)), act("retract", () =>
        post("retract", { person: this.person.id, chat: message.chat, message: message.id })));
    }
    return line;
  }

  about(what, message) {
    if (this.editing && what !== "edit") this.field.value = "";
    this.replyTo = what === "reply" ? message : null;
    this.editing = what === "edit" ? message : null;
    const line = this.find("about");
    line.hidden = !what;
    if (!what) return;
    line.firstElementChild.textContent = what === "edit" ? word("editing")
      : `${word("replying")} ${plain(message.body).slice(0, 100)}`;
    if (what === "edit") this.field.value = plain(message.body);
    if (this.node.contains(document.activeElement)) this.field.focus();
  }

  async send() {
    const text = this.field.value.trim();
    if (!text) return;
    const [person, chat, replyTo, editing] = [this.person.id, this.chat, this.replyTo, this.editing];
    this.field.value = "";
    this.editing = null;
    this.about(null, null);
    this.showMenu(false);
    this.find("note").textContent = "";
    const done = editing ? await post("edit", { person, chat, message: editing.id, text })
      : await post("say", { person, chat, text, reply_to: replyTo && replyTo.id });
    if (!done && !this.field.value) this.field.value = text;
    if (done && !editing) this.toNewest();
  }

  toNewest() { // whoever comes or does something wants to see what is new
    if (chats.get(this.chat).past) sync();
  }

  showMenu(open) {
    const list = this.find("menu");
    this.find("commands").setAttribute("aria-expanded", String(open));
    list.hidden = !open;
    if (!open) return;
    const sign = look === "matrix" ? "!" : "/";
    list.lang = this.person.locale;
    list.replaceChildren(...menu.filter((one) => one.locale === this.person.locale).map((one) => el("button", {
      type: "button", onclick: () => { this.field.value = `${sign}${one.name} `; this.showMenu(false); this.field.focus(); },
    }, el("b", {}, `${sign}${one.name}`), ` ${one.help}`)));
  }
}

function drawAllTabs() { for (const pane of panes) pane.drawTabs(); }

// -- what arrives --------------------------------------------------------------------------------------------

function arrived(message) {
  const chat = chats.get(message.chat);
  if (!chat) return;
  const at = chat.messages.findIndex((one) => one.id === message.id);
  const fresh = at < 0 && message.place >= chat.total;
  if (at >= 0) {
    if (chat.messages[at].version > message.version) return;
    chat.messages[at] = message;
  } else if (fresh) {
    const here = panes.filter((pane) => pane.chat === message.chat);
    if (chat.messages.length >= KEPT && !here.every((pane) => pane.atEnd)) chat.past = true; // somebody reads
    if (!chat.past) chat.messages.push(message);
    chat.total = message.place + 1;
    if (message.author && read(message.author, message.chat) >= message.place) {
      markRead(message.author, message.chat, chat.total);
    }
  } else return;
  const here = panes.filter((pane) => pane.chat === message.chat);
  const dropped = chat.messages.length > KEPT ? chat.messages.splice(0, chat.messages.length - KEPT / 2) : [];
  for (const pane of here) {
    if (!fresh || !chat.past) pane.show(message, fresh);
    if (dropped.length || chat.past) pane.trim(dropped);
  }
  if (fresh) later(drawAllTabs);
}

let waiting = false;
function later(what) { // many messages at once are one drawing
  if (waiting) return;
  waiting = true;
  setTimeout(() => { waiting = false; what(); }, 50);
}

function noted({ person, chat, text }) {
  for (const pane of panes) {
    if (pane.person.id === person && pane.chat === chat) pane.find("note").textContent = text;
  }
}

function clocked(clock) {
  ahead = new Date(clock.now) - Date.now();
  ticked();
}

function ticked() {
  const now = new Date(Date.now() + ahead);
  const text = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" }).format(now);
  const shown = document.getElementById("time");
  const line = Math.abs(ahead) > 60000 ? `${text} (${word("ahead")})` : text;
  if (shown.textContent !== line) shown.textContent = line;
}

let syncing = null, again = false, meanwhile = []; // what arrives during a sync may be newer than what it brings
async function sync() {
  if (syncing) { again = true; return; }
  syncing = load();
  await syncing;
  syncing = null;
  for (const message of meanwhile.splice(0)) arrived(message);
  if (again) { again = false; sync(); }
}

async function load() {
  const asked = new URLSearchParams(location.search).get("lang") || navigator.language;
  let state;
  try {
    const answer = await fetch(`api/state?locale=${encodeURIComponent(asked)}`);
    if (!answer.ok) throw new Error(String(answer.status));
    state = await answer.json();
  } catch {
    trouble(word("lost"));
    return;
  }
  trouble("");
  ({ run, words, locale, home, people, names, menu } = state);
  chats = new Map(state.chats.map((chat) => [chat.id, chat]));
  document.documentElement.lang = locale;
  document.documentElement.dir = RIGHT_TO_LEFT.test(locale) ? "rtl" : "ltr";
  document.title = word("title");
  for (const node of document.querySelectorAll("[data-word]")) node.textContent = word(node.dataset.word);
  clocked(state.clock);
  if (!panes.length) panes = OPENING.map((_, number) => new Pane(number));
  for (const pane of panes) {
    pane.person = people.find((person) => person.id === pane.person.id) || people[0];
    if (!pane.person.chats.includes(pane.chat)) pane.chat = pane.person.chats[0];
    pane.draw();
  }
}

let missed = false;
function happened(kind, data) {
  if (document.hidden) { missed = true; return; } // who is not looked at draws nothing
  if (kind === "message") syncing ? meanwhile.push(data) : arrived(data);
  if (kind === "note") noted(data);
  if (kind === "clock") clocked(data);
  if (kind === "hello") sync();
  if (kind === "lost") trouble(word("lost"));
}

// One tab listens for all: a browser opens only six connections to a host, however many tabs there are.
function listen() {
  const between = new BroadcastChannel("labbot");
  between.onmessage = ({ data: [kind, data] }) => happened(kind, data);
  const open = () => {
    const source = new EventSource("api/events");
    const told = (kind, data) => { happened(kind, data); between.postMessage([kind, data]); };
    for (const kind of ["message", "note", "clock", "hello"]) {
      source.addEventListener(kind, (event) => told(kind, JSON.parse(event.data)));
    }
    source.onerror = () => {
      told("lost", {});
      if (source.readyState === EventSource.CLOSED) setTimeout(open, 2000);
    };
  };
  if (!navigator.locks) { open(); return; }
  const forever = new Promise(() => {});
  navigator.locks.request("labbot-events", { ifAvailable: true }, (lock) => {
    if (lock) { open(); return forever; } // "hello" is what draws the page
    sync();
    return void navigator.locks.request("labbot-events", () => { open(); return forever; });
  });
}

// -- beginning -----------------------------------------------------------------------------------------------

for (const choice of document.querySelectorAll("#look input")) {
  choice.checked = choice.value === look;
  choice.addEventListener("change", () => {
    look = choice.value;
    store("look", look);
    for (const pane of panes) { pane.showMenu(false); pane.draw(); }
  });
}
for (const button of document.querySelectorAll("#clock button")) {
  button.addEventListener("click", async () => {
    const clock = await post("clock", { hours: button.dataset.hours ? Number(button.dataset.hours) : null });
    if (clock) clocked(clock);
  });
}
document.addEventListener("visibilitychange", () => {
  if (missed && !document.hidden) { missed = false; sync(); } else for (const pane of panes) pane.look();
});
addEventListener("storage", ({ key }) => { if (key?.startsWith("labbot.read.") && !document.hidden) later(drawAllTabs); });
addEventListener("resize", () => { for (const pane of panes) pane.look(); });
setInterval(ticked, 1000);
listen();
