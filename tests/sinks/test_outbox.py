"""The outbox keeps the newest of each topic, events in order, and both within bounds."""

from __future__ import annotations

from bridge.sinks.outbox import EVENTS, TOPICS, Message, Outbox


def drain(outbox: Outbox, now: float = 0.0) -> list[tuple[str, bytes]]:
    taken = []
    while (message := outbox.next(now)) is not None:
        taken.append((message.topic, message.payload))
    return taken


def test_only_the_newest_state_of_a_topic_is_sent() -> None:
    outbox = Outbox()
    for number in range(100_000):
        outbox.put(Message("a", str(number).encode()))
    outbox.put(Message("b", b"x"))
    assert drain(outbox) == [("a", b"99999"), ("b", b"x")]


def test_an_expired_state_is_not_sent() -> None:
    outbox = Outbox()
    outbox.put(Message("battery/data", b"old", expires=10.0))
    outbox.put(Message("other", b"good", expires=30.0))
    assert drain(outbox, now=20.0) == [("other", b"good")]


def test_retained_states_are_sent_again_on_a_new_connection_and_others_are_not() -> None:
    outbox = Outbox()
    outbox.put(Message("kept", b"1", retain=True))
    outbox.put(Message("gone", b"2"))
    drain(outbox)
    outbox.retained_again()
    assert drain(outbox) == [("kept", b"1")]


def test_a_message_given_back_does_not_replace_a_newer_one() -> None:
    outbox = Outbox()
    outbox.put(Message("a", b"old", qos=1, retain=True))
    old = outbox.next(0.0)
    assert old is not None
    outbox.put(Message("a", b"new", qos=1, retain=True))
    outbox.give_back(old)
    assert drain(outbox) == [("a", b"new")]


def test_a_message_given_back_after_a_newer_one_was_sent_sends_the_newer_one_again() -> None:
    outbox = Outbox()
    outbox.put(Message("a", b"old", qos=1, retain=True))
    old = outbox.next(0.0)
    assert old is not None
    outbox.put(Message("a", b"new", qos=1, retain=True))
    drain(outbox)
    outbox.give_back(old)
    assert drain(outbox) == [("a", b"new")]


def test_what_is_put_last_goes_last_even_if_its_topic_waits_in_front() -> None:
    outbox = Outbox()
    outbox.put(Message("status", b"old", qos=1, retain=True))
    outbox.put(Message("availability", b"offline", qos=1, retain=True))
    outbox.put_last(Message("status", b"new", qos=1, retain=True))
    assert drain(outbox) == [("availability", b"offline"), ("status", b"new")]


def test_a_given_back_message_that_is_not_retained_is_sent_once_more() -> None:
    outbox = Outbox()
    outbox.put(Message("a", b"1", qos=1))
    message = outbox.next(0.0)
    assert message is not None
    outbox.give_back(message)
    assert drain(outbox) == [("a", b"1")]
    assert drain(outbox) == []


def test_events_keep_their_order_and_go_before_states() -> None:
    outbox = Outbox()
    outbox.put(Message("state", b"s"))
    outbox.put(Message("result", b"1", event=True))
    outbox.put(Message("result", b"2", event=True))
    assert drain(outbox) == [("result", b"1"), ("result", b"2"), ("state", b"s")]


def test_events_past_the_bound_drop_the_oldest_and_are_counted() -> None:
    outbox = Outbox()
    for number in range(EVENTS + 5):
        outbox.put(Message("result", str(number).encode(), event=True))
    assert outbox.dropped == 5
    assert drain(outbox)[0] == ("result", b"5")


def test_topics_past_the_bound_are_refused_and_counted() -> None:
    outbox = Outbox()
    for number in range(TOPICS + 3):
        outbox.put(Message(f"t/{number}", b"", retain=True))
    assert outbox.dropped == 3
    assert len(outbox) == TOPICS


def test_t18_what_is_not_retained_has_room_whatever_is_retained() -> None:
    outbox = Outbox()
    for number in range(TOPICS):
        outbox.put(Message(f"t/{number}", b"", retain=True))
    drain(outbox)
    bank, other = Message("battery/data", b"1"), Message("t/new", b"", retain=True)
    assert outbox.passes(bank, 0.0)
    assert not outbox.passes(other, 0.0)
    outbox.put(bank)
    outbox.put(other)
    assert drain(outbox) == [("battery/data", b"1")]
    assert outbox.dropped == 1


def test_t18_retained_events_push_no_other_event_out_and_only_the_newest_of_a_topic_waits() -> None:
    outbox = Outbox()
    outbox.put(Message("result", b"1", event=True))
    for number in range(TOPICS + 3):
        outbox.put(Message(f"t/{number}", b"old", retain=True, event=True))
        outbox.put(Message(f"t/{number}", b"new", retain=True, event=True))
    outbox.put(Message("state", b"s"))
    assert outbox.dropped == 6
    sent = drain(outbox)
    assert sent == [("result", b"1"), *((f"t/{number}", b"new") for number in range(TOPICS)), ("state", b"s")]
    outbox.retained_again()
    assert drain(outbox) == [], "and none is kept"


def test_a_retained_event_given_back_goes_first_unless_a_newer_one_waits() -> None:
    outbox = Outbox()
    first, second = (Message(topic, b"old", retain=True, event=True) for topic in ("a", "b"))
    outbox.put(Message("b", b"new", retain=True, event=True))
    outbox.give_back(first)
    outbox.give_back(second)
    assert drain(outbox) == [("b", b"new"), ("a", b"old")]
    outbox.give_back(first)
    outbox.forget("a")
    assert drain(outbox) == []


def test_a_message_passes_only_where_nothing_waits_and_it_is_young() -> None:
    outbox = Outbox()
    assert outbox.passes(Message("a", b"1", expires=10.0), now=5.0)
    assert not outbox.passes(Message("a", b"1", expires=10.0), now=15.0)
    outbox.put(Message("event", b"1", event=True))
    assert not outbox.passes(Message("a", b"2"), now=0.0)
    drain(outbox)
    outbox.put(Message("b", b"1"))
    assert not outbox.passes(Message("a", b"2"), now=0.0)


def test_a_retained_state_that_passed_is_sent_again_on_a_new_connection_and_others_are_not() -> None:
    outbox = Outbox()
    for message in (Message("kept", b"1", retain=True), Message("gone", b"2"), Message("event", b"3", event=True)):
        outbox.sent(message)
    outbox.retained_again()
    assert drain(outbox) == [("kept", b"1")]
    assert outbox.state("kept") == b"1"
