"""The lines `explain` prints, from what is known of one sandbox."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sandboxer.cli.explain import SHOWN, explained
from sandboxer.kinds.meta import Condition
from sandboxer.kinds.story import StoryOfOne, Tombstone, Transition
from sandboxer.testing.clock import EPOCH

NOW = EPOCH + timedelta(hours=1)
HOG = "Service web was killed because it needed more memory than 64 MiB (exit 137, OOM)."


def told(number: int, reason: str, message: str, **fields: Any) -> Transition:
    given = {"by": "controller", "after": "Ready", **fields}
    return Transition(number=number, time=EPOCH, reason=reason, message=message, **given)


def condition(type_: str, status: Any, message: str, reason: str = "Why") -> Condition:
    return Condition(
        type=type_, status=status, reason=reason, message=message, last_transition_time=EPOCH
    )


def story(**fields: Any) -> StoryOfOne:
    given = {"uid": "u-1", "namespace": "default", "name": "hello", "phase": "Ready", **fields}
    return StoryOfOne(**given)


def gone(deleted_by: str, **fields: Any) -> str:
    stone = Tombstone(
        uid="u-1", namespace="default", name="hello", extension="ext.fake", host="h1",
        created_at=EPOCH - timedelta(minutes=5), deleted_at=EPOCH, deleted_by=deleted_by,
        phase="Ready", last_message="It runs.", **fields,
    )  # fmt: skip
    return explained(story(phase="", tombstone=stone), NOW)


def test_the_living_say_how_they_are_and_what_went_wrong() -> None:
    """Place, state, last trouble and end come before what happened."""
    text = explained(
        story(
            host="h1",
            extension="ext.fake",
            placement_reason="ext.fake on h1: it fits.",
            expires_at=NOW + timedelta(minutes=30),
            conditions=(condition("Ready", "True", "It runs and is healthy."),),
            transitions=(
                told(1, "Created", "It was asked for.", by="user/alice", via="kubectl/v1.32.2"),
                told(2, "Drifted", HOG, type="Warning", trigger="events"),
            ),
        ),
        NOW,
    )

    assert text == (
        "default/hello is Ready.\n"
        "  It is on host h1 by ext.fake.\n"
        "  ext.fake on h1: it fits.\n"
        "  It runs and is healthy.\n"
        f"  Its last trouble was at 2026-01-01 12:00:00: {HOG}\n"
        "  It expires at 2026-01-01 13:30:00, in 30m.\n"
        "\n"
        "What happened, in UTC:\n"
        "   2026-01-01 12:00:00   user alice (kubectl/v1.32.2)   Created   It was asked for.\n"
        f"   2026-01-01 12:00:00   controller (events)            Drifted   {HOG}\n"
    )


def test_a_change_that_waits_is_told_of_what_runs() -> None:
    """What runs says what its change waits for, and what does not run says it once."""
    held = condition("Reconciling", "True", "ext.fake on h1: the host fails.", "Waiting")
    running = condition("Ready", "True", "It runs.")
    not_running = condition("Ready", "False", held.message)

    waits = explained(story(host="h1", conditions=(running, held)), NOW)
    says_once = explained(story(host="h1", conditions=(not_running, held)), NOW)

    assert "  It runs.\n  A change of it waits. ext.fake on h1: the host fails.\n" in waits
    assert says_once.count("the host fails") == 1


def test_the_pending_say_what_each_host_said() -> None:
    """Each host that was tried has a line, also when its reason has two sentences."""
    said = (
        "ext.a on h1: the host does not answer. No route to 10.0.0.1. "
        "ext.a on h2: the host is full with 9 sandboxes. ext.b: it cannot suspend a sandbox."
    )

    text = explained(story(phase="Pending", conditions=(condition("Routed", "False", said),)), NOW)

    assert text.splitlines()[:4] == [
        "default/hello is Pending.",
        "  ext.a on h1: the host does not answer. No route to 10.0.0.1.",
        "  ext.a on h2: the host is full with 9 sandboxes.",
        "  ext.b: it cannot suspend a sandbox.",
    ]


def test_what_waits_for_a_person_says_so_once() -> None:
    """A stall is told with what to do, and not twice in the same words."""
    text = explained(
        story(
            phase="Failed",
            host="h1",
            extension="ext.fake",
            conditions=(
                condition("Ready", "False", "No engine. Install podman."),
                condition("Stalled", "True", "No engine. Install podman."),
            ),
        ),
        NOW,
    )

    assert text.count("Install podman.") == 1
    assert "  A person has to act.\n" in text


def test_the_gone_say_who_and_why() -> None:
    """Who deleted it is named in words for each of those who can."""
    by_user = gone("user/alice", deleted_via="kubectl/v1.32.2")

    assert by_user.startswith(
        "default/hello is gone: user alice deleted it with kubectl/v1.32.2 at 2026-01-01 12:00:00.\n"
        "  It lived for 5m on host h1 by ext.fake, and went 60m ago; its uid was u-1.\n"
        "  It was Ready when its deletion was asked for. Ready said: It runs.\n"
    )
    assert "is gone: it expired at" in gone("expiry")
    assert "is gone: source specs-1 deleted it at" in gone("source/specs-1")
    assert "is gone: pool web deleted it at" in gone("pool/web")
    assert "is gone: it went with what it belonged to at" in gone("collector")
    assert "  Because: Its manifest is gone.\n" in gone("source/x", because="Its manifest is gone.")


def test_what_is_being_deleted_says_who_asked() -> None:
    """While it waits for its host, the one who asked for its deletion is named."""
    asked = told(
        1, "DeletionRequested", "Its deletion was asked for.", by="source/specs",
        trigger="manifest", evidence={"because": "Its manifest is gone from /specs."},
    )  # fmt: skip

    text = explained(story(phase="Terminating", transitions=(asked,)), NOW)

    assert text.splitlines()[:3] == [
        "default/hello is Terminating.",
        "  source specs (manifest) asked for its deletion at 2026-01-01 12:00:00.",
        "  Because: Its manifest is gone from /specs.",
    ]


def test_repeats_are_counted_and_old_ones_left_out() -> None:
    """A long story shows its newest, says how many there are besides, and how often one happened."""
    many = [told(number, "Step", f"Number {number}.") for number in range(1, SHOWN + 5)]
    last = told(99, "PullFails", "No image.", count=7, last_time=NOW)

    text = explained(story(transitions=(*many, last)), NOW)

    assert "(5 earlier ones are in -o json)" in text
    assert "No image. (7 times, last at 2026-01-01 13:00:00)" in text
    assert "Number 5." not in text
    assert "Number 6." in text


def test_hostile_text_steers_no_terminal() -> None:
    """Control characters of hosts and users do not reach the terminal."""
    text = explained(
        story(
            conditions=(condition("Routed", "False", "\x1b[2Jgone\nfake line"),),
            transitions=(told(1, "Odd", "a\x1b]0;b\x07\nWhat happened"),),
        ),
        NOW,
    )

    assert "\x1b" not in text
    assert "\nfake line" not in text
    assert "\nWhat happened\n" not in text
