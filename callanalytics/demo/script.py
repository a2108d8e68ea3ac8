"""Who calls, who answers and what they say: the fourteen calls of the demonstration.

A dialogue is text, one line an utterance. `A:` is the agent, `C:` the caller. Marks after the letter:
`^` starts before the other has finished; then the mood, `+` cheerful, `-` weary, `!` tense, `!!` upset,
none calm. In brackets, with seconds: [ring 4] [music 12] [masked 9] [pause 3]. The agents stay calm.

All people, numbers and parcels are invented; the telephone numbers are from the range kept for fiction.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time
from enum import StrEnum

from callanalytics.records import Direction, Role


class Mood(StrEnum):
    """How a line is spoken; `voices.MANNERS` says what that does to the voice."""

    CALM = ""
    CHEERFUL = "+"
    WEARY = "-"
    TENSE = "!"
    UPSET = "!!"


class Between(StrEnum):
    """What happens between two lines."""

    RING = "ring"
    MUSIC = "music"
    MASKED = "masked"
    PAUSE = "pause"


class Style(StrEnum):
    """Which recorder's names, folders and formats a call is written in (see `recorders.py`)."""

    FREEPBX = "freepbx"
    VICIDIAL = "vicidial"
    CONNECT = "connect"
    GENESYS = "genesys"
    FUSIONPBX = "fusionpbx"
    GENERIC = "generic"
    PAIR = "pair"
    SIDECAR = "sidecar"


@dataclass(frozen=True, slots=True)
class Line:
    """One utterance. `overlaps`: it starts before the previous one has ended."""

    role: Role
    mood: Mood
    overlaps: bool
    text: str


@dataclass(frozen=True, slots=True)
class Interlude:
    """A stretch without speech."""

    kind: Between
    duration_s: float


@dataclass(frozen=True, slots=True)
class Voice:
    """An espeak-ng voice and variant at its calm rate and pitch (espeak's own 0..100 scale).

    Only variants without "breath": espeak-ng's breath noise differs from run to run.
    """

    name: str
    rate_wpm: int = 158
    pitch: int = 42


@dataclass(frozen=True, slots=True)
class Agent:
    """Somebody who answers calls."""

    agent_id: str
    name: str
    voice: Voice


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the demonstration. `at` is local time; `extension` is what the queue's number is."""

    slug: str
    style: Style
    at: time
    queue: str
    extension: str
    agent: Agent
    caller: Voice
    number: str
    dialogue: str
    direction: Direction = Direction.INBOUND
    has_sidecar: bool = False
    broken: bool = False

    @property
    def events(self) -> tuple[Line | Interlude, ...]:
        """The dialogue, line by line."""
        return tuple(_event(line) for line in self.dialogue.strip().splitlines())

    @property
    def upset(self) -> bool:
        """True when the caller loses patience."""
        return any(isinstance(event, Line) and event.mood is Mood.UPSET for event in self.events)


_SPOKEN = re.compile(r"([AC])(\^?)(\+|-|!!|!|): (.+)")
_INTERLUDE = re.compile(r"\[(ring|music|masked|pause) (\d+)\]")


def _event(line: str) -> Line | Interlude:
    if spoken := _SPOKEN.fullmatch(line):
        who, overlap, mood, text = spoken.groups()
        return Line(Role.AGENT if who == "A" else Role.CALLER, Mood(mood), bool(overlap), text)
    if interlude := _INTERLUDE.fullmatch(line):
        return Interlude(Between(interlude[1]), float(interlude[2]))
    raise ValueError(f"line of a dialogue not understood: {line!r}. See the top of {__name__}.")


DANA = Agent("1004", "Dana", Voice("en-us+f1", 160, 40))
LUIS = Agent("1011", "Luis", Voice("en-us+m3", 156, 46))
PRIYA = Agent("1017", "Priya", Voice("en-gb-x-rp+f4", 158, 48))
TOM = Agent("1023", "Tom", Voice("en-gb-scotland+m7", 156, 50))

# The caller of two calls: in the morning, and again when the promise was not kept.
OKAFOR = Voice("en+steph", 154, 44)
OKAFOR_NUMBER = "2025550143"

CALLS: tuple[Call, ...] = (
    Call(
        "password",
        Style.FREEPBX,
        time(8, 34, 12),
        "support",
        "600",
        LUIS,
        Voice("en-us+linda", 152, 36),
        "2025550112",
        """
A: Good morning, Northwind support, this is Luis. What can I do for you?
C: Good morning. I changed my password yesterday, and today my own computer refuses to believe that I am me.
A: That happens to the best of us. May I have your customer number?
C: Yes, it is four, four, one, nine, zero, two.
A: Thank you. I can see the account. I am sending you a link by e-mail right now.
C: Give me a moment, the mail program is slow in the morning. So am I.
[pause 3]
C: There it is. I click on the link, and it asks for a new password.
A: Take three or four words that have nothing to do with each other. They are easy to keep in mind.
C+: Teapot, giraffe, Sunday. Oh, now I have told you.
A^: Then please add a fourth one that you do not tell me.
C+: Done. And I am in! That was quicker than making coffee.
A: I am glad to hear it. Is there anything else?
C: No, that was all. Thank you, Luis.
A: Have a good day. Goodbye.
""",
    ),
    Call(
        "parcel-first",
        Style.FREEPBX,
        time(9, 5, 47),
        "shipping",
        "610",
        TOM,
        OKAFOR,
        OKAFOR_NUMBER,
        """
A: Northwind shipping, you are speaking with Tom. How can I help?
C: Hello Tom. I am waiting for a parcel. The page says delivered, but my doorstep says otherwise.
A: I am sorry about that. Could you read me the tracking number?
C: Certainly. It ends with seven, seven, three, five.
A: Thank you. The driver has written that it was left with a neighbour, at number fourteen.
C: That is curious. My street stops at number twelve.
A: Then somebody has made a mistake. Let me ask the depot where the parcel is.
[pause 4]
A: They have found the van. The driver will bring it to you today, before noon.
C: Before noon, good. It is a birthday present for my son, and the party starts at three.
A: I have put a note on it, so that it is not forgotten.
C: Thank you. I will stay at home until then.
A: If anything is in the way, please call us again. Goodbye.
C: I hope I will not have to. Goodbye.
""",
    ),
    Call(
        "broadband",
        Style.VICIDIAL,
        time(9, 41, 3),
        "sales",
        "620",
        DANA,
        Voice("en+m3", 156, 44),
        "2025550127",
        """
[ring 4]
C: Hello?
A: Hello, this is Dana from Northwind. You asked us to call back about the faster line.
C: Ah, yes. You are punctual. My daughter studies at home now, and our internet has the speed of a snail.
A: I understand. You have the small plan with twenty five megabits. How many people use it?
C: Three people, one television, and a refrigerator that wants to know the weather.
A: Then I would take the plan with two hundred and fifty. It costs nine dollars more a month.
C: Is there a long contract?
A: No. You can go back to the old plan at the end of any month.
C+: That sounds fair. And when would it start?
A: There is no need for a visit. It could start on Monday.
C+: On Monday already! My daughter will think that I am a magician. Yes, let us do that.
A: Wonderful. You will get the papers by e-mail in a few minutes.
C+: Thank you very much, Dana. That was a pleasant call.
A: Thank you. Goodbye.
""",
        direction=Direction.OUTBOUND,
    ),
    Call(
        "billing-dispute",
        Style.CONNECT,
        time(10, 12, 26),
        "billing",
        "630",
        PRIYA,
        Voice("en-us+m4", 150, 44),
        "2025550165",
        """
A: Northwind billing, my name is Priya. How can I help you?
C: Hello. There is a charge on my bill that I do not know. Forty two dollars for a thing named premium care.
A: May I have the number of the bill?
C: It is eight, one, one, five, six. I have never ordered this.
A: Premium care was added to your contract in August.
C: Well, not by me. Please remove it, and send me the money back.
A: I can remove it from next month on. The past months were confirmed.
C!: Confirmed by whom? I have just told you that I never ordered it.
A: The system says that it was accepted online.
C!!: The system is wrong! This is the third time that I call about the same thing!
A: I can open a ticket for you.
C^!!: Not another ticket! I had two tickets, and nobody ever called me back!
A: I can see them here. They were closed without an answer.
C!!: Closed! You take my money, and then you close my complaint? That is outrageous!
A: You are right, and I am sorry. Let me ask my supervisor for a refund at once.
C!!: Do that now, while I am on the line! I am not going to hang up before this is settled!
[pause 2]
A: She agrees. All three months will be paid back within five days.
C!!: I want to have that in writing! Today! Otherwise I am going to cancel everything!
A: You will have it by e-mail in one minute. I apologise for the trouble.
C!: We will see. Goodbye.
""",
        has_sidecar=True,
    ),
    Call(
        "router-hold",
        Style.CONNECT,
        time(10, 48, 50),
        "support",
        "600",
        TOM,
        Voice("en-us+f4", 156, 56),
        "2025550138",
        """
A: Northwind support, Tom speaking. What is the matter?
C: Hello. My router has a red light since this morning. I have turned it off and on, as one does.
A: As one should. Is it the lamp on the left, or the one in the middle?
C: The one in the middle. It is blinking, quite cheerfully, if I may say so.
A: Then the line is the problem and not the box. May I put you on hold while I measure it?
C: Of course.
[music 14]
A: Thank you for waiting. There was a fault in your street, and it is repaired.
C: The lamp is turning green as we speak.
A: Very good. Please try to open a page.
C: It works. I can see the weather, and it is raining. That is not your fault.
A: I am afraid we do not repair that. Is there anything else?
C+: No, thank you. That was a great help.
A: You are welcome. Goodbye.
""",
    ),
    Call(
        "compliment",
        Style.GENERIC,
        time(11, 2, 41),
        "support",
        "600",
        LUIS,
        Voice("en-us+grandma", 148, 46),
        "2025550171",
        """
A: Northwind support, this is Luis. Good morning.
C+: Good morning! Nothing is broken. I am calling to say thank you.
A: That does not happen every day. What have we done right?
C+: Last week a young man from your team came to my house. I am eighty one, and I know nothing of cables.
C+: He moved the box, he labelled all the plugs, and then he even fed my cat!
A: That must have been Marek. He likes cats.
C+: And the cat liked him. Since then I talk with my sister in Lisbon every evening, with a picture!
A: That is lovely to hear. I will read this out in our meeting on Friday.
C+: Please do. And tell him that Oscar sends his regards. Oscar is the cat.
A: I will write it down. Thank you for calling, you have made my morning.
C+: And you mine. Goodbye, dear!
A: Goodbye.
""",
    ),
    Call(
        "upgrade",
        Style.GENESYS,
        time(11, 37, 18),
        "sales",
        "620",
        DANA,
        Voice("en-us+Mike", 156, 50),
        "2025550154",
        """
A: Northwind sales, this is Dana. How may I help you?
C: Good morning. My contract ends in March, and I would like to know what you can offer.
A: I am happy to look. You have the home plan with telephone and television.
C: That is right. To be honest, nobody in this house watches television any more.
A: Then we could leave that out. It saves you fourteen dollars a month.
C: Good. And what would I lose?
A: Only the sports package and the recorder.
C: The recorder is full of films from two thousand and sixteen. I believe I will get over it.
A: In that case the new plan is thirty one dollars. Shall I send it to you in writing?
C: Please. I will read it tonight and answer tomorrow.
A: Take your time, the offer is good until the end of the month.
C: Thank you. That was clear and short. Goodbye.
A: Goodbye, and enjoy the silence.
""",
    ),
    Call(
        "address",
        Style.SIDECAR,
        time(12, 16, 5),
        "billing",
        "630",
        PRIYA,
        Voice("en+m4", 148, 46),
        "2025550180",
        """
A: Northwind billing, my name is Priya. How can I help?
C-: Good afternoon. I need to change the name on a contract. It belonged to my father.
A: Certainly. Has he moved out?
C-: He passed away in October. I am taking care of his papers now.
A: I am very sorry for your loss. We will make this as easy as we can.
C-: Thank you. There is so much of it. Every company wants another form.
A: We need only one thing, a copy of the certificate. You can send it by e-mail, and there is no hurry.
C-: That is kind. The telephone should stay. My mother is used to the number.
A: Then I will move the contract to her name, and the number stays the same. There is no charge.
C-: She will be glad. He chose that number, you know. It ends with their wedding day.
A: Then it is in good hands. You will get a letter with everything in it.
C-: Thank you for your patience. Goodbye.
A: All the best to you and your mother. Goodbye.
""",
    ),
    Call(
        "payment",
        Style.FREEPBX,
        time(13, 8, 33),
        "billing",
        "630",
        DANA,
        Voice("en-us+Michael", 158, 46),
        "2025550196",
        """
A: Northwind billing, this is Dana. What can I do for you?
C: Hello. I would like to pay my bill by card. The web page does not like me today.
A: We can do that together. It is the bill of this month, over sixty three dollars and ten cents?
C: That is the one.
A: I will stop the recording while you read me the card. You will hear nothing until it is done.
C: All right, I have it here.
[masked 10]
A: Thank you, the payment went through. The recording is on again.
C: Splendid. Will I get a receipt?
A: It is already on its way by e-mail. You can also pay automatically, if you like.
C: I prefer to see what I pay. It keeps me awake.
A: That is a good reason. Then you will hear from us next month.
C: I am sure of that. Thank you, goodbye.
A: Goodbye.
""",
    ),
    Call(
        "moving-house",
        Style.PAIR,
        time(13, 52, 9),
        "sales",
        "620",
        LUIS,
        Voice("en-gb-scotland+f4", 164, 46),
        "2025550119",
        """
A: Northwind sales, Luis speaking. Hello.
C: Hello. We are moving house in three weeks, and I want to take the internet with me.
A: Then let us pack it. What is the new address?
C: Twenty one Orchard Lane. It is the yellow house with the crooked chimney.
A: I cannot see the chimney, but I can see the line. It is faster than the one you have now.
C+: Really? Then the move is good for something.
A: When would you like it to work?
C: On the day that we arrive, if possible. That would be the twelfth.
A^: The twelfth is free. The technician can come between eight and ten.
C: In the morning, with all the boxes. Well, he may help to carry.
A: I will not promise that. You will get a message on the day before.
C: Perfect. And the old line?
A: It stops at midnight on the same day. There is nothing more to do.
C: That was simple. Thank you, Luis. Goodbye.
A: Good luck with the boxes. Goodbye.
""",
    ),
    Call(
        "invoice-copy",
        Style.VICIDIAL,
        time(14, 20, 44),
        "billing",
        "630",
        TOM,
        Voice("en-us+belinda", 160, 38),
        "2025550107",
        """
A: Northwind billing, you are speaking with Tom.
C: Good afternoon. I am the treasurer of a small rowing club. I need copies of two invoices.
A: No problem. Which months?
C: May and June. The others are in the folder, but those two fell into the river.
A: Into the river?
C+: It was a very windy meeting.
A: I see. May I have the customer number of the club?
C: It is five, five, zero, three, eight.
A: Thank you. I can see May and June here. Shall I send them by post or by e-mail?
C: By e-mail, please. It floats better.
A: They are on the way. Please check whether they have arrived.
[pause 3]
C: They are here, both of them. Thank you very much.
A: My pleasure. Keep the folder dry. Goodbye.
C+: We will try. Goodbye!
""",
    ),
    Call(
        "parcel-again",
        Style.FREEPBX,
        time(15, 26, 31),
        "shipping",
        "610",
        TOM,
        OKAFOR,
        OKAFOR_NUMBER,
        """
A: Northwind shipping, you are speaking with Tom. How can I help?
C: Hello Tom. We spoke this morning, about the parcel for my son.
A: I remember. It ends with seven, seven, three, five. Has it arrived?
C: No, it has not. You told me before noon. I stayed at home the whole day.
A: I am sorry. Let me look. It says that the driver is still on the road.
C: It is almost half past three. The children are already here.
A: I understand. I am calling the depot.
[pause 4]
A: They tell me that the parcel will be delivered tomorrow.
C!!: Tomorrow? The birthday is today! I told you that this morning, and you wrote it down!
A: I did write it down. The depot has not read the note.
C^!!: I do not care who reads your notes! You promised me that it would be here before noon!
A: I know, and I am sorry.
C!!: I have a little boy here who has been standing at the window for two hours! What shall I tell him?
A: I can send a courier from the depot. He needs about forty minutes.
C!!: And why was that not possible at noon? Why does one have to shout before anybody does anything?
A: You are right to ask. I do not have a good answer.
C!!: I want that courier now, and I want the name of your manager! This is a disgrace!
A: The courier is leaving. My manager will call you before five o'clock.
C!: I have heard that one before. Goodbye.
""",
        has_sidecar=True,
    ),
    Call(
        "opening-hours",
        Style.FUSIONPBX,
        time(16, 3, 15),
        "sales",
        "620",
        PRIYA,
        Voice("en-us+m5", 156, 52),
        "2025550133",
        """
A: Northwind, good afternoon, my name is Priya.
C: Good afternoon. I only have a small question. Is your shop at the station open on Saturday?
A: Yes, from nine until four.
C: Very good. I would like to bring back a telephone. It has too many buttons for me.
A: You can do that within thirty days. Please bring the box and the receipt.
C: The receipt I have. The box is now the home of two tortoises.
A: Then we will do it without the box. Do the tortoises have everything they need?
C+: They seem to be content. They were never quick to complain.
A: We have a telephone with large keys. Shall I put one aside for you?
C: Yes, please do. In black, if you have it.
A: We do. It will be waiting for you on Saturday, under the number forty one.
C: Forty one. I will be there at nine. Thank you, and goodbye.
A: Thank you for calling. Goodbye.
""",
    ),
    Call(
        "cut-off",
        Style.FREEPBX,
        time(16, 40, 58),
        "support",
        "600",
        LUIS,
        Voice("en-us+Annie", 160, 36),
        "2025550189",
        """
A: Northwind support, this is Luis. How can I help?
C: Hello. The sound on my telephone line is strange. Every few minutes it goes away.
A: For how long does it stay away?
C: For a second or two. My sister says that I sound like a robot under water.
A: You sound quite dry to me. Is the telephone connected to the router or to the wall?
C: To the router, with the grey cable that came in the box.
A: Please take the cable out and put it back, until it clicks.
C: One moment. I have to move a plant.
[pause 3]
C: It was not all the way in. Now it clicks.
A: Then I think that we have found the robot. Shall I call you back to try it?
C: Yes, please do.
""",
        broken=True,
    ),
)
