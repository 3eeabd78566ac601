"""Answers in the vendors' XML, read strictly: what a vendor might forgive is refused here.

A misspelt attribute or a noun in the wrong place must not look like a call that would ring.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from deploy.sandbox.vendor import MASK

if TYPE_CHECKING:
    from deploy.sandbox.phone_web import Reply

_XML_TYPES: Final = ("text/xml", "application/xml")
_METHODS: Final = ("GET", "POST")


class DocumentError(Exception):
    """An answer that the vendor cannot carry out; `code` is the vendor's own number if known."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason, code)
        self.reason = reason
        self.code = code

    def __str__(self) -> str:
        return f"{self.code}: {self.reason}" if self.code is not None else self.reason


@dataclass(frozen=True, slots=True)
class Element:
    """A verb, or a noun inside one."""

    name: str
    text: str
    attributes: Mapping[str, str]
    nouns: tuple[Element, ...] = ()

    def get(self, name: str, default: str = "") -> str:
        """The attribute's text."""
        return self.attributes.get(name, default)

    def document(self) -> dict[str, object]:
        """As JSON, without passwords."""
        shown = {
            name: MASK if "password" in name.lower() else value
            for name, value in self.attributes.items()
        }
        nouns = {"nouns": [noun.document() for noun in self.nouns]} if self.nouns else {}
        return {"name": self.name, "text": self.text, "attributes": shown, **nouns}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What a vendor's documents may hold, as far as the sandbox carries it out."""

    #: Verb to its attributes.
    verbs: Mapping[str, frozenset[str]]
    #: What `Dial` may hold, with the attributes of each.
    nouns: Mapping[str, frozenset[str]]
    #: How long `Dial` may ring.
    timeout: range
    #: How long it rings if nothing is said; None is as long as the other side lets it.
    default_timeout: int | None
    #: Whether URLs may be relative to the document's own.
    relative_urls: bool
    #: Whether `Dial` may hold more than one SIP address or number.
    several_nouns: bool = False
    #: The attributes of a SIP noun that carry a login.
    login: tuple[str, str]
    #: What the vendor calls the noun of a SIP address.
    sip_noun: str
    #: Status of a retrieval that failed, of a wrong content type, of bad XML, of a wrong root, of
    #: bad content: the vendor's error numbers.
    codes: Mapping[str, int] = field(default_factory=dict)

    def error(self, kind: str, reason: str) -> DocumentError:
        """With the vendor's number for this kind of error."""
        return DocumentError(reason, self.codes.get(kind))


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: https://www.twilio.com/docs/voice/twiml. The error numbers: https://www.twilio.com/docs/api/errors.
#: Twilio calls 12200 a warning, leaves the offending part out and goes on; here it ends the call.
TWIML: Final = Dialect(
    verbs={
        "Dial": _names(
            "action answerOnBridge callReason callerId events hangupOnStar method record "
            "recordingStatusCallback recordingStatusCallbackEvent recordingStatusCallbackMethod "
            "recordingTrack referMethod referUrl ringTone sequential timeLimit timeout trim"
        ),
        "Record": _names(
            "action finishOnKey maxLength method playBeep recordingStatusCallback "
            "recordingStatusCallbackEvent recordingStatusCallbackMethod timeout transcribe "
            "transcribeCallback trim"
        ),
        "Redirect": _names("method"),
        "Say": _names("language loop voice"),
        "Play": _names("digits loop"),
        "Pause": _names("length"),
        "Hangup": frozenset(),
        "Reject": _names("reason"),
    },
    nouns={
        "Sip": _names(
            "method password statusCallback statusCallbackEvent statusCallbackMethod url username"
        ),
        "Number": _names(
            "byoc method sendDigits statusCallback statusCallbackEvent statusCallbackMethod url"
        ),
    },
    timeout=range(5, 601),
    default_timeout=30,
    relative_urls=True,
    login=("username", "password"),
    sip_noun="Sip",
    codes={
        "retrieval": 11200,
        "content type": 12300,
        "xml": 12100,
        "root": 12102,
        "schema": 12200,
        "url": 11100,
    },
)
#: https://developers.telnyx.com/docs/voice/programmable-voice/texml-verbs. No error numbers are
#: documented. `answerOnBridge` of TwiML is not among the attributes of `Dial`.
TEXML: Final = Dialect(
    verbs={
        "Dial": _names(
            "action callerId fromDisplayName hangupOnStar method record recordMaxLength "
            "recordingChannels recordingStatusCallback recordingStatusCallbackEvent "
            "recordingStatusCallbackMethod ringTone sendRecordingUrl timeLimit timeout"
        ),
        "Record": _names(
            "action channels finishOnKey maxLength method playBeep recordingStatusCallback "
            "recordingStatusCallbackMethod timeout transcription transcriptionCallback "
            "transcriptionEngine trim"
        ),
        "Redirect": _names("method"),
        "Say": _names("language loop voice"),
        "Play": _names("digits loop mediaStorage"),
        "Pause": _names("length"),
        "Hangup": frozenset(),
        "Reject": _names("reason"),
    },
    nouns={
        "Sip": _names(
            "method password sendDigits statusCallback statusCallbackEvent statusCallbackMethod "
            "url username"
        ),
        "Number": _names(
            "method sendDigits statusCallback statusCallbackEvent statusCallbackMethod url"
        ),
    },
    timeout=range(5, 121),
    default_timeout=30,
    relative_urls=True,
    several_nouns=True,
    login=("username", "password"),
    sip_noun="Sip",
)
#: https://www.plivo.com/docs/voice/xml. The login of `User` is documented at
#: https://plivo.com/docs/voice/concepts/sip-authentication; the vendor's SDK does not know it yet.
PLIVO_XML: Final = Dialect(
    verbs={
        "Dial": _names(
            "action callbackMethod callbackUrl callerId callerName confirmKey confirmSound "
            "confirmTimeout dialMusic digitsMatch digitsMatchBLeg hangupOnStar method redirect "
            "sipHeaders timeLimit timeout"
        ),
        "Record": _names(
            "action callbackMethod callbackUrl fileFormat finishOnKey maxLength method playBeep "
            "recordChannelType recordSession redirect startOnDialAnswer timeout transcriptionType "
            "transcriptionUrl"
        ),
        "Redirect": _names("method"),
        "Speak": _names("language loop voice"),
        "Play": _names("loop"),
        "Wait": _names("beep length minSilence silence"),
        "Hangup": _names("reason schedule"),
    },
    nouns={
        "User": _names("sendDigits sendOnPreanswer sipAuthPassword sipAuthUsername sipHeaders"),
        "Number": _names("sendDigits sendDigitsMode sendOnPreanswer"),
    },
    timeout=range(1, 86_401),
    default_timeout=None,
    relative_urls=False,
    several_nouns=True,
    login=("sipAuthUsername", "sipAuthPassword"),
    sip_noun="User",
)


def read(reply: Reply, dialect: Dialect) -> tuple[Element, ...]:
    """The verbs of an answer. Raises DocumentError."""
    if not reply.succeeded:
        what = reply.problem or f"the answer's status is {reply.status}"
        raise dialect.error("retrieval", what)
    content_type = reply.content_type.partition(";")[0].strip().lower()
    if content_type not in _XML_TYPES:
        raise dialect.error("content type", f"the answer is {content_type or 'of no type'}")
    try:
        root = ET.fromstring(reply.body)  # noqa: S314 - the document comes from the code under test
    except ET.ParseError as problem:
        raise dialect.error("xml", f"the answer is not XML: {problem}") from problem
    if root.tag != "Response":
        raise dialect.error("root", f"the root element is <{root.tag}>")
    if root.attrib or _text(root):
        raise dialect.error("schema", "<Response> holds more than verbs")
    return tuple(_verb(item, dialect) for item in root)


def _verb(item: ET.Element, dialect: Dialect) -> Element:
    allowed = dialect.verbs.get(item.tag)
    if allowed is None:
        raise dialect.error("schema", f"<{item.tag}> is no verb, or none that is played here")
    _check_attributes(item, allowed, dialect)
    nouns = tuple(_noun(noun, dialect) for noun in item) if item.tag == "Dial" else ()
    if item.tag != "Dial" and len(item):
        raise dialect.error("schema", f"<{item.tag}> takes no <{item[0].tag}>")
    verb = Element(item.tag, _text(item), dict(item.attrib), nouns)
    _check_verb(verb, dialect)
    return verb


def _noun(item: ET.Element, dialect: Dialect) -> Element:
    allowed = dialect.nouns.get(item.tag)
    if allowed is None:
        raise dialect.error("schema", f"<{item.tag}> is no noun of <Dial> that is played here")
    _check_attributes(item, allowed, dialect)
    if len(item) or not _text(item):
        raise dialect.error("schema", f"<{item.tag}> must hold an address and nothing else")
    given = [name for name in dialect.login if item.get(name)]
    if item.tag == dialect.sip_noun and len(given) == 1:
        raise dialect.error("schema", f"{' and '.join(dialect.login)} come together")
    return Element(item.tag, _text(item), dict(item.attrib))


def _check_attributes(item: ET.Element, allowed: frozenset[str], dialect: Dialect) -> None:
    if unknown := sorted(item.attrib.keys() - allowed):
        raise dialect.error("schema", f"<{item.tag}> has no attribute {', '.join(unknown)}")
    for name, value in item.attrib.items():
        if name.lower().endswith("method") and value not in _METHODS:
            raise dialect.error("schema", f"{name} of <{item.tag}> must be GET or POST: {value}")


def _check_verb(verb: Element, dialect: Dialect) -> None:
    match verb.name:
        case "Dial":
            # Twilio also dials a number that stands in <Dial> itself; the others do not.
            if not verb.nouns and not (verb.text and dialect is TWIML):
                raise dialect.error("schema", "<Dial> without anything to dial")
            if len(verb.nouns) > 1 and not dialect.several_nouns:
                raise dialect.error("schema", "<Dial> takes one <Sip>")
            timeout = verb.get("timeout")
            if timeout and not (timeout.isdecimal() and int(timeout) in dialect.timeout):
                raise dialect.error("schema", f"timeout of <Dial> must not be {timeout}")
        case "Redirect" | "Say" | "Speak" if not verb.text:
            raise dialect.error("schema", f"<{verb.name}> is empty")
        case "Hangup" | "Reject" | "Record" if verb.text:
            raise dialect.error("schema", f"<{verb.name}> takes no text")
        case _:
            pass


def _text(item: ET.Element) -> str:
    """The element's own text, also what stands between its children."""
    return "".join([item.text or "", *(child.tail or "" for child in item)]).strip()
