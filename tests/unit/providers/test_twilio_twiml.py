"""The TwiML that answers Twilio's questions."""

from __future__ import annotations

from urllib.parse import urlencode
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.calls import (
    Acknowledge,
    Answer,
    CallbackKind,
    CallbackRequest,
    Dial,
    Forward,
    HangUp,
    Voicemail,
)
from worker.domain.values import SipLogin
from worker.providers._twilio_webhooks import TwilioWebhooks

WEBHOOKS = TwilioWebhooks()


def parsed(answer: Answer) -> ET.Element:
    return ET.fromstring(WEBHOOKS.render(answer)[1])  # noqa: S314 -- our own


DIAL = Dial(
    address="+14155550100@project.sip.example.com",
    transport="tcp",
    login=SipLogin(username="trunkline1", password="Planted-Password-1"),
    ring_seconds=20,
    then="https://voice.example.com/callbacks/dialed/num_1?a=1&b=2",
)
DECLARATION = "<?xml version='1.0' encoding='UTF-8'?>\n"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Acknowledge(), "<Response />"),
        (HangUp(), "<Response><Hangup /></Response>"),
        (
            Forward(url="https://old.example.com/voice?a=1&b=2", method="GET"),
            (
                '<Response><Redirect method="GET">https://old.example.com/voice?a=1&amp;b=2'
                "</Redirect></Response>"
            ),
        ),
        (
            DIAL,
            (
                '<Response><Dial action="https://voice.example.com/callbacks/dialed/num_1?a=1&amp;b=2"'
                ' method="POST" timeout="20" answerOnBridge="true">'
                '<Sip username="trunkline1" password="Planted-Password-1">'
                "sip:+14155550100@project.sip.example.com;transport=tcp</Sip></Dial></Response>"
            ),
        ),
        (
            Voicemail(message="Leave a message & hang up.", recording="https://v.example.com/r"),
            (
                "<Response><Say>Leave a message &amp; hang up.</Say>"
                '<Record action="https://v.example.com/r" method="POST" maxLength="300"'
                ' recordingStatusCallback="https://v.example.com/r"'
                ' recordingStatusCallbackMethod="POST" /><Hangup /></Response>'
            ),
        ),
    ],
)
def test_answers_are_twiml(answer: Answer, expected: str) -> None:
    assert WEBHOOKS.render(answer) == ("text/xml", (DECLARATION + expected).encode())


def test_without_a_login_there_is_none_in_the_answer() -> None:
    answer = Dial(
        address="a@b.example", transport="udp", login=None, ring_seconds=5, then="https://c"
    )

    sip = parsed(answer).find("Dial/Sip")

    assert sip is not None
    assert (sip.attrib, sip.text) == ({}, "sip:a@b.example;transport=udp")


def test_a_voicemail_cannot_start_over() -> None:
    """Whatever <Record> comes to is an end: an action of its own, or the verb that follows."""
    voicemail = Voicemail(message="Hello", recording="https://v.example.com/recording")
    verbs = list(parsed(voicemail))
    record = next(verb for verb in verbs if verb.tag == "Record")

    assert record.attrib["action"] == voicemail.recording
    assert verbs[-1].tag == "Hangup"
    form = {"CallSid": "CA1", "CallStatus": "in-progress", "RecordingUrl": "https://a.example/r"}
    asked = CallbackRequest(
        method="POST",
        url=voicemail.recording,
        headers={"content-type": "application/x-www-form-urlencoded"},
        body=urlencode(form).encode(),
    )
    assert WEBHOOKS.event(CallbackKind.RECORDING, asked) is None
    assert list(parsed(Acknowledge())) == []


def _plain(text_: str) -> str:
    """What a parser gives back of a text: line ends become one, the unspeakable a mark."""
    speakable = "".join(
        c
        if c in "\t\n\r" or "\x20" <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff"
        else "\ufffd"
        for c in text_
    )
    return speakable.replace("\r\n", "\n").replace("\r", "\n")


anything = st.text(st.characters(exclude_categories=()), max_size=60)


@given(
    message=anything, recording=anything, user=anything, password=anything, seconds=st.integers()
)
def test_any_text_becomes_well_formed_xml_and_stays_text(
    message: str, recording: str, user: str, password: str, seconds: int
) -> None:
    voicemail = parsed(Voicemail(message=message, recording=recording))
    assert [verb.tag for verb in voicemail] == ["Say", "Record", "Hangup"]
    assert (voicemail[0].text or "") == _plain(message)
    dial = parsed(
        Dial(
            address=user,
            transport="tls",
            login=SipLogin(username=user, password=password),
            ring_seconds=seconds,
            then=recording,
        )
    )
    assert [verb.tag for verb in dial.iter()] == ["Response", "Dial", "Sip"]
    assert dial[0].attrib["timeout"] == str(seconds)
    assert set(dial[0][0].attrib) == {"username", "password"}
    assert dial[0][0].text == _plain(f"sip:{user};transport=tls")
    forward = parsed(Forward(url=message, method="POST"))
    assert [verb.tag for verb in forward] == ["Redirect"]
    assert (forward[0].text or "") == _plain(message)
