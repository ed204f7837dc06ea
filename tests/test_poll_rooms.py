"""Polls in rooms that have names: where a poll is shown, and who may vote by way of which room."""

from sqlmodel import Session, select

from storage import chats
from storage.chats import Chat
from storage.people import Role
from storage.polls import electing, voting
from storage.polls.tables import PollPlace
from tests.conftest import Community, Resident
from tests.test_linking import linked
from tests.test_polls import WHICH, is_true, poll_of, the_card


async def rooms(lab: Community, olga: Resident, *called: str) -> list[Resident]:
    """Groups that have names in lists, as their organiser sees them."""
    here = []
    for name in called:
        group = olga.within(lab.group(name, olga.name, "anna", "ben"))
        await lab.settled()
        await lab.read(lambda session: session.connection().exec_driver_sql("UPDATE chat SET locale = 'en'"))
        await group.says(f"/room {name}")
        here.append(group)
    return here


async def drafts(who: Resident, secrecy: str = "open") -> None:
    await who.says(f"/poll {WHICH}\nTue\nWed")
    await who.presses("One choice")
    await who.presses(secrecy)


async def test_an_organiser_shows_a_poll_in_several_rooms_by_name(lab: Community) -> None:
    olga = await lab.organiser("olga")
    north, south, east = await rooms(lab, olga, "North", "South", "East")
    await drafts(olga)
    assert "It is shown here, and in each group in which you write /poll and its number." in olga.sees
    await olga.presses("Where it is shown")
    assert olga.choices[:3] == ["Also East", "Also North", "Also South"]
    before = olga.screen[-1]
    for label in ("Also North", "Also East", "Also South", "Not East"):
        await olga.presses(label)
    assert olga.sees == "In which groups shall it be shown?\nNow: North, South"
    await olga.says("4")  # done
    assert "It is shown here and in North, South." in olga.sees
    await olga.presses("Post it")
    assert "Poll #1 is open. It stands here and in North, South." in [seen.html for seen in olga.screen]
    for room in (north, south):
        assert the_card(room).html.startswith("<b>#1 Which evening?</b>")
        await lab.person("anna").within(room.chat).presses("Tue", the_card(room))
    assert not any("Which evening" in seen.html for seen in east.screen)
    assert (await poll_of(lab)).voters == 1
    assert await olga.presses("Also North", before) == "This question is answered already."


async def test_who_is_no_organiser_chooses_no_rooms_from_a_list(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    [north] = await rooms(lab, olga, "North")
    await drafts(anna)
    await anna.presses("Where it is shown")
    assert anna.screen[-2].html == (
        "Only the lab's organisers choose groups from a list. Write /poll and its number in a group instead."
    )
    assert "North" not in str(anna.screen)
    await drafts(olga)
    await olga.presses("Where it is shown")
    await olga.presses("Also North")
    await olga.presses("Done")
    # Rights are those of the moment.
    await lab.read(lambda session: session.connection().exec_driver_sql("UPDATE person SET role = 'participant'"))
    await olga.presses("Post it")
    assert "It stands here; write /poll 1 in each group where it shall stand, too." in olga.screen[-2].html
    assert not any("Which evening" in seen.html for seen in north.screen)


async def test_a_private_chat_that_others_come_into_is_no_place_of_a_poll(lab: Community) -> None:
    olga = await lab.organiser("olga")
    await rooms(lab, olga, "North")
    await drafts(olga)
    for label in ("Who may vote", "only whoever is in", "Also North", "Done", "Post it"):
        await olga.presses(label)

    def opened(session: Session) -> tuple[bool, bool]:
        connection, stranger = session.connection(), 999
        [private] = session.exec(select(Chat.id).join(PollPlace).where(Chat.private)).all()
        poll = voting.rules(connection, 1)
        assert private is not None and poll is not None
        before = electing.may_vote(connection, poll, stranger, Role.PARTICIPANT, private)
        chats.open_up(connection, private)
        return before, electing.may_vote(connection, poll, stranger, Role.PARTICIPANT, private)

    assert await lab.read(opened) == (True, False)


async def test_only_who_votes_by_way_of_the_named_rooms_counts(lab: Community) -> None:
    olga = await lab.organiser("olga")
    north, south = await rooms(lab, olga, "North", "South")
    await drafts(olga)
    await olga.presses("Who may vote")
    await olga.presses("only whoever is in the rooms")
    await olga.presses("Also North")
    await olga.presses("Done")
    assert "Who may vote: only whoever is in the rooms where it is shown." in olga.sees
    assert "It is shown here and in North." in olga.sees
    await olga.presses("Post it")
    no = "Only people in the groups where poll #1 stands vote in it. If you are in one, vote there."
    assert (await olga.presses("Tue") or "").startswith(no)  # she has asked, but not as one of that room
    await south.says("/poll 1")
    assert south.sees == "Poll #1 is only for the rooms where it stands."
    anna, ben, eve = (lab.person(name) for name in ("anna", "ben", "eve"))
    await anna.within(south.chat).says("/vote 1 1")
    assert anna.within(south.chat).sees == no
    assert (await poll_of(lab)).voters == 0
    card = the_card(north)
    await anna.within(north.chat).presses("Tue", card)
    await ben.within(north.chat).says("2", reply_to=card.id)
    await eve.says("/vote 1 1")
    assert eve.sees == no
    await eve.says(f"/start poll_1_{(await poll_of(lab)).link}")  # the link that stands in that room
    await eve.presses("Wed")
    await anna.says("/vote 1 2")  # who has voted there changes it anywhere
    assert anna.sees == "Your vote in #1: 2. Wed"
    assert (await poll_of(lab)).voters == 3
    assert await is_true(lab)


async def test_a_poll_for_some_rooms_is_asked_again_in_the_same_and_by_an_organiser_only(lab: Community) -> None:
    olga = await lab.organiser("olga")
    [north] = await rooms(lab, olga, "North")
    await drafts(olga)
    for label in ("Who may vote", "only whoever is in", "Also North", "Done", "Post it"):
        await olga.presses(label)
    await olga.presses("One more like it")
    assert "Who may vote: only whoever is in the rooms where it is shown." in olga.sees
    await olga.presses("Post it")
    assert (await poll_of(lab, 2)).audience == "rooms"
    assert the_card(north, 2).html.startswith("<b>#2 ")
    await lab.read(lambda session: session.connection().exec_driver_sql("UPDATE person SET role = 'participant'"))
    await olga.presses("One more like it")  # she still is the one who has asked
    assert "Who may vote: whoever is in a group where it stands." in olga.sees
    await olga.presses("Post it")
    assert (await poll_of(lab, 3)).audience == "places"
    assert the_card(north, 3).html.startswith("<b>#3 ")


async def test_of_a_linked_pair_the_later_vote_counts_whichever_room_it_came_by(networks: Community) -> None:
    """Anna is Anni on the other messenger; the poll is for a room on each."""
    olga = await networks.organiser("olga")
    [north] = await rooms(networks, olga, "North")
    there = networks.messengers["other"].group("Elsewhere", "mika", "anni")
    await networks.settled()
    networks.messengers["other"].administrators.add((there.id, "mika"))
    mika = networks.person("mika", on="other").within(there)
    await mika.says("/language en")
    await mika.says("/room Elsewhere")
    await drafts(olga)
    for label in ("Who may vote", "only whoever is in", "Also North", "Also Elsewhere", "Done", "Post it"):
        await olga.presses(label)
    anna, anni = networks.person("anna"), networks.person("anni", on="other")
    await anna.within(north.chat).presses("Tue", the_card(north))
    networks.time.pass_by(1)
    assert await anni.within(there).presses("Wed", the_card(mika)) is not None
    assert (await poll_of(networks)).voters == 2
    await linked(anna, anni)
    found = await networks.read(lambda session: voting.profile(session.connection(), 1))
    assert found == {(1,): 1}
    await anna.says("/vote 1 1")
    await anni.says("/vote 1")
    assert the_card(anni).html.startswith("<b>#1 ")
    assert (await poll_of(networks)).voters == 1
    assert await is_true(networks)


async def test_a_room_that_has_lost_its_name_meanwhile_is_shown_nothing(lab: Community) -> None:
    olga = await lab.organiser("olga")
    north, _ = await rooms(lab, olga, "North", "South")
    await drafts(olga)
    await olga.presses("Where it is shown")
    await olga.presses("Also North")
    await olga.presses("Also South")
    await olga.presses("Done")
    await north.says("/room")
    await north.presses("No name in lists")
    await olga.presses("Post it")
    assert "Poll #1 is open. It stands here and in South." in [seen.html for seen in olga.screen]
    assert not any("Which evening" in seen.html for seen in north.screen)
