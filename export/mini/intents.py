"""What a voice appliance is asked, and what the miniature answers: several hundred intents.

An intent is one answer and the ways to ask for it. `split` says which phrasings are held out: they
are asked in the evaluation only. CORE are the intents that the first stage of training knows.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Split = Literal["train", "held-out"]

_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


@dataclass(frozen=True, slots=True)
class Intent:
    """key: its name. asks: phrasings, without punctuation that is not spoken. reply: the answer.

    topic: what it is about, for "what did I just say".
    """

    key: str
    asks: tuple[str, ...]
    reply: str
    topic: str

    def split(self, ask: str) -> Split:
        """A fifth of the phrasings, at least one of every intent, is held out."""
        ranked = sorted(self.asks, key=lambda text: zlib.crc32(f"{self.key}|{text}".encode()))
        n_held_out = max(1, len(ranked) // 5)
        return "held-out" if ask in ranked[:n_held_out] else "train"

    def asked(self, split: Split) -> tuple[str, ...]:
        """Its phrasings of one side of the split, in their own order."""
        return tuple(ask for ask in self.asks if self.split(ask) == split)


def number_words(n: int) -> str:
    """0 to 199 in words."""
    if n >= 100:
        rest = f" and {number_words(n - 100)}" if n > 100 else ""
        return f"one hundred{rest}"
    if n < 20:
        return _ONES[n]
    tens = _TENS[n // 10 - 2]
    return tens if n % 10 == 0 else f"{tens} {_ONES[n % 10]}"


def _make(key: str, asks: str, reply: str, topic: str, **words: str) -> Intent:
    spoken = tuple(ask.strip().format(**words) for ask in asks.split("|"))
    return Intent(key, spoken, reply.format(**words), topic.format(**words))


_CAPITALS = "France Paris|Japan Tokyo|Italy Rome|Spain Madrid|Germany Berlin|Portugal Lisbon|Greece Athens|Austria Vienna|Belgium Brussels|Denmark Copenhagen|Sweden Stockholm|Norway Oslo|Finland Helsinki|Poland Warsaw|Hungary Budapest|Ireland Dublin|Scotland Edinburgh|Wales Cardiff|England London|Russia Moscow|Ukraine Kyiv|Turkey Ankara|Egypt Cairo|Kenya Nairobi|Morocco Rabat|Nigeria Abuja|Ghana Accra|Ethiopia Addis_Ababa|China Beijing|India New_Delhi|Thailand Bangkok|Vietnam Hanoi|Indonesia Jakarta|Malaysia Kuala_Lumpur|South_Korea Seoul|Mongolia Ulaanbaatar|Nepal Kathmandu|Pakistan Islamabad|Iran Tehran|Iraq Baghdad|Lebanon Beirut|Canada Ottawa|Mexico Mexico_City|Cuba Havana|Jamaica Kingston|Brazil Brasilia|Argentina Buenos_Aires|Chile Santiago|Peru Lima|Colombia Bogota|Venezuela Caracas|Ecuador Quito|Bolivia La_Paz|Uruguay Montevideo|Australia Canberra|New_Zealand Wellington|Iceland Reykjavik|Switzerland Bern|Croatia Zagreb|Serbia Belgrade"
_CAPITAL_ASKS = "What is the capital of {a}?|What's the capital of {a}?|Tell me the capital of {a}.|Which city is the capital of {a}?|Do you know the capital of {a}?|The capital of {a}, please.|{a}, what is its capital?"

_FACTS = """How many minutes are in an hour?;How many minutes does an hour have?;An hour is how many minutes?;Sixty minutes.;minutes in an hour
How many seconds are in a minute?;How many seconds does a minute have?;A minute is how many seconds?;Sixty seconds.;seconds in a minute
How many hours are in a day?;How many hours does a day have?;A day is how many hours?;Twenty four hours.;hours in a day
How many days are in a week?;How many days does a week have?;A week is how many days?;Seven days.;days in a week
How many months are in a year?;How many months does a year have?;A year is how many months?;Twelve months.;months in a year
How many weeks are in a year?;How many weeks does a year have?;A year is how many weeks?;Fifty two weeks.;weeks in a year
How many inches are in a foot?;How many inches does a foot have?;A foot is how many inches?;Twelve inches.;inches in a foot
How many feet are in a yard?;How many feet does a yard have?;A yard is how many feet?;Three feet.;feet in a yard
How many grams are in a kilogram?;How many grams does a kilogram have?;A kilogram is how many grams?;One thousand grams.;grams in a kilogram
How many meters are in a kilometer?;How many meters does a kilometer have?;A kilometer is how many meters?;One thousand meters.;meters in a kilometer
How many centimeters are in a meter?;How many centimeters does a meter have?;A meter is how many centimeters?;One hundred centimeters.;centimeters in a meter
How many ounces are in a pound?;How many ounces does a pound have?;A pound is how many ounces?;Sixteen ounces.;ounces in a pound
How many legs does a spider have?;Count the legs of a spider.;A spider has how many legs?;Eight legs.;legs of a spider
How many legs does an insect have?;Count the legs of an insect.;An insect has how many legs?;Six legs.;legs of an insect
How many letters are in the alphabet?;How many letters does the alphabet have?;Count the letters of the alphabet.;Twenty six letters.;letters of the alphabet
How many planets are there?;How many planets go around the sun?;Count the planets.;Eight planets.;number of planets
How many continents are there?;Count the continents.;How many continents does the earth have?;Seven continents.;number of continents
What color is the sky?;Which color does the sky have?;Tell me the color of the sky.;The sky is blue.;color of the sky
What color is grass?;Which color does grass have?;Tell me the color of grass.;Grass is green.;color of grass
What color is snow?;Which color does snow have?;Tell me the color of snow.;Snow is white.;color of snow
What color is a banana?;Which color does a banana have?;Tell me the color of a banana.;Bananas are yellow.;color of bananas
What does a cat say?;What sound does a cat make?;How does a cat go?;A cat says meow.;sound of a cat
What does a dog say?;What sound does a dog make?;How does a dog go?;A dog says woof.;sound of a dog
What does a cow say?;What sound does a cow make?;How does a cow go?;A cow says moo.;sound of a cow
What does a duck say?;What sound does a duck make?;How does a duck go?;A duck says quack.;sound of a duck
What is the largest planet?;Which planet is the largest?;Name the biggest planet.;Jupiter is the largest.;largest planet
What is the largest ocean?;Which ocean is the largest?;Name the biggest ocean.;The Pacific Ocean.;largest ocean
What is the tallest mountain?;Which mountain is the tallest?;Name the highest mountain.;Mount Everest.;tallest mountain
What is the fastest animal?;Which animal is the fastest?;Name the quickest animal.;The cheetah.;fastest animal
At what temperature does water boil?;When does water boil?;How hot is boiling water?;At one hundred degrees.;boiling point of water
At what temperature does water freeze?;When does water freeze?;How cold is freezing water?;At zero degrees.;freezing point of water
What is the opposite of hot?;Tell me the opposite of hot.;The opposite of hot, please.;Cold.;opposite of hot
What is the opposite of big?;Tell me the opposite of big.;The opposite of big, please.;Small.;opposite of big
What is the opposite of early?;Tell me the opposite of early.;The opposite of early, please.;Late.;opposite of early
What is the opposite of left?;Tell me the opposite of left.;The opposite of left, please.;Right.;opposite of left
What is the opposite of open?;Tell me the opposite of open.;The opposite of open, please.;Closed.;opposite of open"""

_TALK = """hello=Hello.|Hi there.|Good morning.|Hey.|Good evening.|Hello there.|Hi, are you there?=Hello, nice to hear you.
how-are-you=How are you?|How are you doing?|How do you feel today?|Are you well?|How is it going?|How are things?=I am fine, thank you.
name=What is your name?|Who are you?|What are you called?|Tell me your name.|Do you have a name?|What should I call you?=I am Edge, your assistant.
thanks=Thank you.|Thanks a lot.|Thank you very much.|Thanks.|Many thanks.|That was helpful, thank you.=You are welcome.
goodbye=Goodbye.|Bye bye.|See you later.|Good night.|See you tomorrow.|I have to go now.=Goodbye, talk to you soon.
joke=Tell me a joke.|Make me laugh.|Do you know a joke?|Say something funny.|I want to hear a joke.=I would tell you a joke, but I forgot it.
old=How old are you?|What is your age?|When were you made?|Are you old?=I was made quite recently.
where=Where are you?|Where do you live?|Where is your home?|In which place are you?=I live inside this machine.
robot=Are you a robot?|Are you a machine?|Are you human?|Are you a real person?=I am a small machine.
sing=Can you sing?|Sing a song.|Please sing something.|Do you sing?=I sing rather badly.
bored=I am bored.|I have nothing to do.|This is boring.|What can I do now?=You could go for a walk.
hungry=I am hungry.|I need something to eat.|I want food.|I could eat something.=Have some fruit.
tired=I am tired.|I am so sleepy.|I need some sleep.|I did not sleep well.=Then go and rest.
sad=I am sad.|I feel bad today.|I am unhappy.|This is a bad day.=I am sorry to hear that.
happy=I am happy.|I feel great today.|I am so glad.|This is a good day.=That is good to hear.
help=Can you help me?|I need help.|Help me, please.|What can you do?=Ask me something simple.
love=I love you.|You are the best.|I like you.|You are great.=That is kind of you.
private=Are you listening?|Who hears me?|Where does my voice go?|Do you send my voice away?=Your voice stays on this machine.
weather=What is the weather like?|How is the weather?|Will it rain today?|Do I need an umbrella?=I cannot see outside.
clock=What time is it?|Tell me the time.|What is the time now?|How late is it?=I have no clock yet.
volume-up=Turn the volume up.|Louder, please.|Make it louder.|Volume up.|Raise the volume.|I cannot hear you.|Speak up.=Louder now.
volume-down=Turn the volume down.|Quieter, please.|Make it quieter.|Volume down.|Lower the volume.|That is too loud.|Be quieter.=Quieter now.
mute=Mute the sound.|Sound off.|Mute, please.|Switch off the sound.=The sound is off.
music-on=Play some music.|Put on some music.|Start the music.|I want to hear music.|Music, please.|Play a song.=Here is some music.
music-off=Stop the music.|Turn off the music.|No more music.|Music off.=The music is off.
lights-on=Turn on the lights.|Switch the lights on.|Lights on.|Make it bright.|Turn the lamp on.|I need some light.=The lights are on.
lights-off=Turn off the lights.|Switch the lights off.|Lights off.|Make it dark.|Turn the lamp off.|No more light, please.=The lights are off.
heat-up=Make it warmer.|I am cold.|Turn up the heating.|Heat the room.=I made it warmer.
heat-down=Make it cooler.|I am hot.|Turn down the heating.|Cool the room.=I made it cooler.
door=Lock the door.|Close the door.|Is the door locked?|Shut the door, please.=The door is locked.
coffee=Make some coffee.|I want coffee.|Start the coffee machine.|Coffee, please.=Coffee is on its way.
alarm-off=Turn off the alarm.|Stop the alarm.|No more alarm.|Alarm off.=The alarm is off.
timer-off=Cancel the timer.|Stop the timer.|Forget the timer.|Timer off.=The timer is off.
call=Call my mother.|Phone my mother.|I want to call my mother.|Ring my mother.=I have no telephone.
news=What is the news?|Tell me the news.|Any news today?|What happened today?=I know no news.
coin=Flip a coin.|Toss a coin.|Heads or tails?|Throw a coin.=It is heads.
dice=Roll a die.|Roll the dice.|Throw the dice.|Give me a number.=You rolled a four."""

# These act on the conversation, not on a table: the conversation maker knows what they mean.
STOP = Intent(
    "stop", ("Stop.", "Stop it.", "Be quiet.", "That is enough.", "Okay, stop.", "Enough."), "", ""
)
REPEAT = Intent(
    "repeat",
    ("Say that again.", "Can you repeat that?", "Pardon?", "Once more, please.", "Repeat that."),
    "",
    "",
)
RECALL = Intent(
    "recall",
    ("What did I just say?", "What was my question?", "What did I ask?", "Do you remember my question?"),
    "",
    "",
)
BACK_CHANNELS = ("Uh huh.", "Okay.", "Right.", "I see.", "Yes.", "Mm.")

CORE = (
    "hello", "how-are-you", "name", "thanks", "goodbye", "joke", "volume-up", "volume-down",
    "music-on", "lights-on", "lights-off", "capital-France", "capital-Japan", "capital-Italy",
    "plus-2-2", "times-3-3", "fact-0", "fact-3", "timer-5", "timer-10",
)  # fmt: skip


def all_intents() -> tuple[Intent, ...]:
    """Every intent of the table, in a fixed order; keys are unique."""
    return tuple(
        [*_talk(), *_capitals(), *_facts(), *_timers(), *_calendar(), *_arithmetic()]
    )


def core_intents() -> tuple[Intent, ...]:
    """The intents of the first stage."""
    return tuple(intent for intent in all_intents() if intent.key in CORE)


def _talk() -> Iterator[Intent]:
    for line in _TALK.splitlines():
        key, asks, reply = line.split("=")
        yield Intent(key, tuple(asks.split("|")), reply, key.replace("-", " "))


def _capitals() -> Iterator[Intent]:
    for pair in _CAPITALS.split("|"):
        country, city = (name.replace("_", " ") for name in pair.split())
        key = f"capital-{country.replace(' ', '-')}"
        yield _make(key, _CAPITAL_ASKS, "{b}.", "the capital of {a}", a=country, b=city)


def _facts() -> Iterator[Intent]:
    for number, line in enumerate(_FACTS.splitlines()):
        *asks, reply, topic = line.split(";")
        plain = asks[0].rstrip("?.")
        more = (f"Can you tell me, {plain[0].lower()}{plain[1:]}?", f"Please, {plain.lower()}?")
        yield Intent(f"fact-{number}", (*asks, *more), reply, f"the {topic}")


def _timers() -> Iterator[Intent]:
    asks = "Set a timer for {n} {m}.|Start a {n} minute timer.|Timer for {n} {m}.|Wake me in {n} {m}.|Remind me in {n} {m}.|Give me {n} {m}."
    for minutes in (*range(1, 21), 25, 30, 40, 45, 50, 60, 90):
        words = {"n": number_words(minutes), "m": "minute" if minutes == 1 else "minutes"}
        yield _make(f"timer-{minutes}", asks, "Timer set for {n} {m}.", "a timer", **words)


def _calendar() -> Iterator[Intent]:
    days = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday Monday".split()
    months = "January February March April May June July August September October November December January".split()
    asks = "What comes after {a}?|Which {k} comes after {a}?|Which {k} follows {a}?|After {a} comes what?|Name the {k} after {a}."
    back = "What comes before {b}?|Which {k} comes before {b}?|Which {k} is before {b}?|Before {b} comes what?|Name the {k} before {b}."
    for kind, names in (("day", days), ("month", months)):
        for a, b in pairwise(names):
            words = {"a": a, "b": b, "k": kind}
            yield _make(f"after-{a}", asks, "{b}.", "the {k} after {a}", **words)
            yield _make(f"before-{b}", back, "{a}.", "the {k} before {b}", **words)


def _arithmetic() -> Iterator[Intent]:
    kinds = (
        ("plus", "plus", "What is {a} and {b}?|Add {a} and {b}.", lambda a, b: a + b),
        ("minus", "minus", "Take {b} from {a}.|{a} less {b} is what?", lambda a, b: a - b),
        ("times", "times", "Multiply {a} by {b}.|{a} multiplied by {b}?", lambda a, b: a * b),
    )
    common = "What is {a} {o} {b}?|What's {a} {o} {b}?|How much is {a} {o} {b}?|{a} {o} {b}?|Tell me {a} {o} {b}.|"
    for name, word, more, result in kinds:
        for a in range(1, 13):
            for b in range(1, 13):
                if (name == "minus" and b >= a) or (name == "times" and 1 in (a, b)):
                    continue
                words = {"a": number_words(a), "b": number_words(b), "o": word}
                reply = f"{number_words(result(a, b)).capitalize()}."
                topic = f"{words['a']} {word} {words['b']}"
                yield _make(f"{name}-{a}-{b}", common + more, reply, topic, **words)
