"""What we answer Telnyx is TeXML, whatever is in it."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contract.providers.test_webhooks_telnyx import URL, WEBHOOKS
from worker.domain.calls import Acknowledge, Answer, Dial, Forward, HangUp, Voicemail
from worker.domain.values import SipLogin

DIAL = Dial(
    address="+14155550100@project.sip.livekit.cloud",
    transport="tcp",
    login=SipLogin(username="user1", password="Planted-Password-1"),
    ring_seconds=25,
    then="https://voice.example.com/callbacks/telnyx/dialed/num_1?a=1&b=2",
)
HEAD = "<?xml version='1.0' encoding='UTF-8'?>\n"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            DIAL,
            (
                '<Response><Dial timeout="25" action="https://voice.example.com/callbacks/telnyx/'
                'dialed/num_1?a=1&amp;b=2" method="POST"><Sip username="user1" '
                'password="Planted-Password-1">sip:+14155550100@project.sip.livekit.cloud;'
                "transport=tcp</Sip></Dial></Response>"
            ),
        ),
        (
            Forward(url="https://old.example.com/voice?a=1&b=2", method="GET"),
            (
                '<Response><Redirect method="GET">https://old.example.com/voice?a=1&amp;b=2</Redirect>'
                "</Response>"
            ),
        ),
        (
            Voicemail(message="Zoë & Co", recording="https://voice.example.com/r"),
            (
                '<Response><Say>Zoë &amp; Co</Say><Record maxLength="300" playBeep="true" '
                'channels="single" recordingStatusCallback="https://voice.example.com/r" '
                'recordingStatusCallbackMethod="POST" /><Hangup /></Response>'
            ),
        ),
        (HangUp(), "<Response><Hangup /></Response>"),
        (Acknowledge(), "<Response />"),
    ],
)
def test_answers_are_texml(answer: Answer, says: str) -> None:
    kind, body = WEBHOOKS.render(answer)

    assert kind == "application/xml"
    assert body.decode() == HEAD + says


@pytest.mark.parametrize(("asked", "rings"), [(1, "5"), (5, "5"), (120, "120"), (600, "120")])
def test_ringing_stays_within_what_telnyx_takes(asked: int, rings: str) -> None:
    dial = Dial(address="a@b", transport="tls", login=None, ring_seconds=asked, then=URL)

    (element,) = ET.fromstring(WEBHOOKS.render(dial)[1])  # noqa: S314 -- our own

    assert element.get("timeout") == rings
    assert element[0].attrib == {}
    assert element[0].text == "sip:a@b;transport=tls"


XML_TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
)


@given(message=XML_TEXT, url=XML_TEXT, user=XML_TEXT, password=XML_TEXT)
def test_whatever_is_said_stays_what_it_is(
    message: str, url: str, user: str, password: str
) -> None:
    login = SipLogin(username=user, password=password)
    dial = Dial(address=url, transport="tcp", login=login, ring_seconds=25, then=url)

    said = parsed(Voicemail(message=message, recording=url))
    (dialled,) = parsed(dial)
    (forwarded,) = parsed(Forward(url=url, method="POST"))

    assert [element.tag for element in said] == ["Say", "Record", "Hangup"]
    assert (said[0].text or "") == message
    assert said[1].get("recordingStatusCallback") == url
    assert dialled.get("action") == url
    assert dialled[0].attrib == {"username": user, "password": password}
    assert dialled[0].text == f"sip:{url};transport=tcp"
    assert (forwarded.text or "") == url


@given(st.text(st.characters()))
def test_what_xml_cannot_hold_does_not_break_it(text: str) -> None:
    said = parsed(Voicemail(message=text, recording=text))

    assert [element.tag for element in said] == ["Say", "Record", "Hangup"]


def parsed(answer: Answer) -> ET.Element:
    return ET.fromstring(WEBHOOKS.render(answer)[1])  # noqa: S314 -- our own
