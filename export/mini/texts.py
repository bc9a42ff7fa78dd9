"""Sentences for the codec: plain talk from templates, and word strings for phonetic variety.

No sentence of the conversations is among them, and the 50 of HELD_OUT are never trained on.
"""

from __future__ import annotations

import numpy as np

_WHO = "the farmer|my sister|a young doctor|the old teacher|her neighbour|our captain|his brother|the painter|a quiet child|the lawyer|their cousin|the pilot|a clever student|the baker"
_DID = "found|carried|painted|borrowed|described|measured|forgot|noticed|repaired|followed|sold|watched|cleaned|wanted|gathered|changed"
_WHAT = "a broken window|the yellow bicycle|three silver coins|an unusual letter|the garden gate|a heavy box|fresh orange juice|the wooden bridge|a dozen eggs|the evening paper|a pair of shoes|the smallest key|a jar of honey|the northern road|a thick blanket|the music box"
_WHERE = "near the river|behind the church|in the village square|under the table|before breakfast|after the storm|on a Thursday morning|during the holidays|beside the fire|across the valley|in the middle of June|without a word|for the third time|at half past seven"
_FRAME = "{a} {b} {c} {d}.|Why would {a} have {b} {c}?|{d}, {a} {b} {c}.|I think {a} {b} {c} {d}.|Did you know that {a} {b} {c}?|Yes, {a} {b} {c}.|It is {n} degrees {d}.|The answer is {n}.|{n} plus {m} is {k}.|Sure, {a} {b} {c} {d}.|Please tell me whether {a} {b} {c}.|Of course, that is {n} minutes."
_WORDS = "about above across action afraid again agree album alive amount anchor animal answer apple april argue arrow aside autumn average award baby balance banana battery beauty because become bench beyond bicycle birthday bitter black blossom boat bottle bounce branch bread breathe brick bright bubble budget butter cabin camera cancel candle carbon castle caught center chain change charge cheese cherry chicken choice church circle citizen clock cloud coach coffee column common cookie copper corner cotton cough country cousin cradle cream cricket crowd crystal curious curtain danger daughter debate decide deep delight desert detail diamond digital dinner direct distance doctor dollar double dragon dream drizzle during eager early earth effort eight either elbow electric elephant empty engine enjoy enough entire equal escape evening every example exhaust expect fabric famous father feather fever fifteen figure finger finish flavor flower follow forest forget fortune forward fourth freedom friend frozen future galaxy garage garden gentle giant ginger glass goodbye gravity green ground guitar hammer harbor healthy heaven height helpful hidden history hobby holiday honest hundred hungry iceberg idea illness image income inside island jacket january jealous journey judge juice jungle kettle kitchen knife ladder language large laugh lawyer leather lemon letter liberty lightning limit liquid listen little locker lunch machine magnet manage maple marble market master matter measure medicine meeting melon memory message middle million minute mirror mistake modern moment monday monkey morning mountain mouth movie museum music mystery napkin narrow nature needle nephew nervous never night noble noise north nothing number object ocean october office onion open orange orchard other oxygen oyster package painting palace paper parade pardon parent patient pattern peace pencil pepper perfect person phone piano picture pigeon pillow pirate planet pleasure pocket police popular powder prison problem promise proud puzzle question quick quiet rabbit radio rainbow reach reason record remember repeat report rescue rhythm river rocket rough round rubber sandwich saturday sausage school science season second secret seven shadow shallow shoulder silence silver simple single sister sleep smooth soccer soldier solution someone southern special spider spoon spring square station stomach storage strange street stretch strong student subject sudden sugar summer sunlight surface surprise switch symbol system table talent teacher temper thank theater thirsty thousand thread through thumb thunder ticket tiger today tomato tongue toward travel treasure trouble truly tuesday tunnel turtle twelve twenty umbrella uncle under unique until upper useful valley vanish velvet verify victory village vision visit voice volume voyage wagon walnut warm water weather wedding weekend weight welcome whisper whistle window winter wisdom without wonder wooden worry yellow yesterday young zebra zero"
_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty".split()

# Made up for this purpose; phonetically mixed and of everyday length.
HELD_OUT: tuple[str, ...] = tuple(
    """A flock of geese crossed the frozen lake at dusk.
The judge asked for a glass of cold water.
Six thick ropes held the ship against the tide.
We saw nothing but fog from the tower.
She keeps her best ideas in a small blue notebook.
The bus to the airport leaves in four minutes.
Nobody had expected such a cheerful reply.
He poured the soup into a deep white bowl.
Thursday would suit me better than Friday.
The road bends sharply after the second bridge.
Can you hear the children in the yard?
My uncle grows beans and pumpkins behind the shed.
It rained so hard that the cellar was flooded.
This jacket is far too warm for spring.
They chose a quiet corner of the library.
Put the kettle on, and I will slice the bread.
The museum closes early on public holidays.
A rusty hinge makes a dreadful noise.
Her voice was calm, but her hands were shaking.
The train was late because of snow on the track.
Do not touch the paint before it is dry.
Our dog is afraid of thunder and balloons.
The price of sugar has doubled since March.
Who left this umbrella beside the door?
The vase fell from the shelf and broke in two.
I would rather walk than wait for a taxi.
The choir sang three songs without a break.
Eleven people signed the letter yesterday.
Fresh herbs make all the difference in this dish.
The old clock strikes five minutes too soon.
Is there enough room for one more chair?
A gentle wind moved the curtains all night.
The pilot circled the field twice before landing.
We need new batteries for the torch.
The answer was hidden on the last page.
Bring a map, for the signs are hard to read.
The boy traded his marbles for a toy plane.
Your parcel should arrive on Monday morning.
Most of the village was asleep by nine.
The nurse spoke softly and closed the blinds.
Those shoes look comfortable but rather plain.
There is a crack in the handle of this jug.
The sheep wandered over the hill in search of grass.
I forgot to lock the garage again.
The music next door stopped just before midnight.
He shrugged and gave her the larger half.
A bright star appeared above the roof.
Turn left at the bakery and go straight on.
The jury needed only an hour to decide.
Every window in the street was dark.""".splitlines()
)


def sentence(rng: np.random.Generator) -> str:
    """A training sentence: 60 % from templates, 40 % a string of words."""
    pick = lambda table: str(rng.choice(table.split("|")))  # noqa: E731
    if rng.random() < 0.4:
        words = rng.choice(_WORDS.split(), int(rng.integers(5, 11)), replace=False)
        return " ".join(words).capitalize() + "."
    numbers = {key: str(rng.choice(_NUMBERS)) for key in "nmk"}
    text = pick(_FRAME).format(
        a=pick(_WHO), b=pick(_DID), c=pick(_WHAT), d=pick(_WHERE), **numbers
    )
    return text[0].upper() + text[1:]
