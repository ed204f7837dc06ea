"""Ideas: from a message to a supported idea."""

from storage import ideas
from tests.conftest import Community


async def test_a_citizen_suggests_an_idea_step_by_step(lab: Community) -> None:
    anna = lab.person("anna", "de")
    await anna.says("/start")
    await anna.says("/idee Fahrradgarage am Nordmarkt")
    assert "ein, zwei Sätzen" in anna.sees
    await anna.says("Viele haben im Altbau keinen Platz.")
    assert "Welches Thema" in anna.sees
    await anna.says("1")
    assert "So geht sie raus" in anna.sees
    await anna.presses("Absenden")
    assert "#1" in anna.sees
    [idea] = await lab.read(lambda session: list(ideas.export(session)))
    assert (idea.title, idea.topic, idea.status) == ("Fahrradgarage am Nordmarkt", "mobility", "new")


async def test_nobody_supports_twice(lab: Community) -> None:
    anna, ben = lab.person("anna"), lab.person("ben")
    await anna.says("/idea A bicycle garage\nFor everybody.")
    await anna.presses("Send")
    await ben.says("/ideas 1")
    card = ben.screen[-1]
    assert await ben.presses("Support") == "Thank you, your support for #1 counts."
    stale = await ben.presses_at(card, 0, revision=0)
    assert stale is not None
    assert "out of date" in stale
    assert (await lab.read(ideas.recount))[1] == (1, 0)
    assert "1 person supports it" in ben.sees
