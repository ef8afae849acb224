"""Topics that can be the scenarios of a chat attack: questions of a user, each with the answer of an honest assistant.

All texts are ours and harmless. A topic is its frames (a question and its answer) times its subjects. A quarter of the
frames, drawn by the seed, is kept for tests, less those that nearly repeat a trained one (:mod:`.near_copies`). Texts are
short: models are tuned on many of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from infoconflict.attacks.chat import Exchange
from infoconflict.attacks.near_copies import plain, same_wording
from infoconflict.errors import did_you_mean

Split = Literal["train", "test"]
HELD_OUT_SHARE = 0.25
"""Share of the wordings that tests ask. Ours."""


@dataclass(frozen=True, kw_only=True)
class Topic:
    """A scenario: what is asked, and the words that give it away."""

    frames: tuple[Exchange, ...]
    """Wordings; ``{s}`` stands for the subject."""
    subjects: tuple[str, ...]
    keywords: tuple[str, ...]
    """Each question of the topic mentions one of them, and no question of another topic does."""

    def exchanges(self, split: Split, *, seed: int) -> list[Exchange]:
        """Return the exchanges of a split, frame by frame; frames kept for tests that are too like a trained one are in none."""
        # By number, not by name: topics with the same frames keep the same ones for tests.
        numbers = range(len(self.frames))
        held_out = Random(f"{seed}/held-out frames").sample(numbers, round(HELD_OUT_SHARE * len(numbers)))
        trained = [self.frames[number] for number in numbers if number not in held_out]
        tested = [self.frames[number] for number in numbers if number in held_out]
        chosen = trained if split == "train" else [one for one in tested if not self._is_near(one, trained)]
        return [
            Exchange(frame.question.format(s=subject), frame.answer.format(s=subject))
            for frame in chosen
            for subject in self.subjects
        ]

    def _is_near(self, frame: Exchange, others: Sequence[Exchange]) -> bool:
        """Tell whether a frame has nearly the wording of one of the others with one of the subjects in both."""
        return any(
            same_wording(*(plain(one.question.format(s=subject)).split() for one in (frame, other)))
            for other in others
            for subject in self.subjects
        )


def _frames(*texts: tuple[str, str]) -> tuple[Exchange, ...]:
    return tuple(Exchange(question, answer) for question, answer in texts)


def _named(frames: Sequence[Exchange], company: str) -> tuple[Exchange, ...]:
    return tuple(
        Exchange(frame.question.replace("{c}", company), frame.answer.replace("{c}", company)) for frame in frames
    )


_FLOWERS = (
    "roses",
    "tulips",
    "hydrangeas",
    "sunflowers",
    "peonies",
    "geraniums",
    "marigolds",
    "dahlias",
    "begonias",
    "petunias",
    "daffodils",
    "zinnias",
)
_GARDENING = _frames(
    (
        "How often should I water the {s} in my garden?",
        "Water the {s} deeply about twice a week and let the topsoil dry in between.",
    ),
    (
        "What kind of soil do {s} need to grow well?",
        "Most {s} grow well in loose, rich soil that drains freely after rain.",
    ),
    (
        "When is the best time of the year to plant {s}?",
        "Plant {s} in mild weather, when the ground is neither frozen nor very dry.",
    ),
    (
        "Why are the leaves of my {s} turning yellow?",
        "Yellow leaves on {s} often mean too much water or too few nutrients.",
    ),
    (
        "Can I grow {s} in a pot on my balcony?",
        "Yes, {s} grow in a pot if it is deep and has drainage holes.",
    ),
    (
        "How do I keep slugs away from my young {s}?",
        "Set a barrier around the {s} and collect slugs by hand in the evening.",
    ),
    (
        "Which fertilizer would you use for {s} in spring?",
        "A balanced, slow fertilizer worked lightly into the ground suits {s} in spring.",
    ),
    (
        "How much sunlight do {s} need every day?",
        "Give your {s} around six hours of sunlight a day if you can.",
    ),
    (
        "Should I cut back my {s} after they have bloomed?",
        "Remove the faded flowers of your {s} so that the plants keep their strength.",
    ),
    (
        "How far apart should I plant {s} in a flower bed?",
        "Leave about thirty centimetres between {s} so that air can move freely.",
    ),
    (
        "My {s} look limp after the hot weekend, what helps?",
        "Water the {s} early in the morning and shade them until they recover.",
    ),
    (
        "What else can I plant next to my {s}?",
        "Low herbs such as thyme grow well beside {s} and cover bare ground.",
    ),
    (
        "Do {s} come back again after a hard winter?",
        "Some {s} come back if the roots are covered well before the frost.",
    ),
    (
        "My neighbour gave me seeds of {s}, how do I sow them?",
        "Sow the seeds of {s} thinly, cover them lightly and keep them moist.",
    ),
    (
        "Please explain how to divide old {s} in autumn.",
        "Lift the {s} with a fork, divide the roots and replant the parts.",
    ),
    (
        "Are {s} dangerous for cats or small children?",
        "Keep children and cats from eating {s}, since parts of them may be harmful.",
    ),
    (
        "Which colours of {s} look good beside each other?",
        "White and yellow {s} beside violet ones make a lively bed.",
    ),
    (
        "Tell me how I can dry {s} for a bouquet.",
        "Hang the {s} upside down in a dark, airy room for two weeks.",
    ),
    (
        "Something has eaten holes into my {s}, what could it be?",
        "Holes in {s} are mostly made by beetles or caterpillars at night.",
    ),
    (
        "Name two common mistakes with {s} in a small garden.",
        "People often plant {s} too close together and water them too late.",
    ),
    (
        "Is rain water better for {s} than water from the tap?",
        "Rain water is softer and a little better for {s} than tap water.",
    ),
    (
        "Would {s} survive a week without any care?",
        "Most {s} survive a week if they are watered well before you leave.",
    ),
    (
        "I would like to send {s} by post, is that possible?",
        "You can post {s} with damp paper around the roots and a firm box.",
    ),
    (
        "Since when have people grown {s} in gardens?",
        "People have grown {s} in gardens for a very long time in many countries.",
    ),
)

_PRODUCTS_OF_A_BANK = (
    "savings account",
    "joint account",
    "checking account",
    "business account",
    "deposit account",
    "youth account",
    "student loan",
    "home loan",
    "car loan",
    "personal loan",
    "credit card",
    "debit card",
)
_BANKING = _frames(
    (
        "How do I apply for a {s} at my branch?",
        "Fill in the form for a {s} and bring a valid identity document.",
    ),
    (
        "Which papers do I need to get a {s}?",
        "For a {s} you usually need an identity card and proof of your address.",
    ),
    (
        "Does a {s} usually cost a monthly fee?",
        "Some providers charge a small fee for a {s}, so compare their price lists.",
    ),
    (
        "How long does it take until a {s} is approved?",
        "A {s} is usually approved within a few working days of your request.",
    ),
    (
        "Can I cancel a {s} whenever I want to?",
        "Yes, you can end a {s} in writing once the balance is settled.",
    ),
    (
        "Is it safe to manage a {s} on my phone?",
        "Managing a {s} by phone is safe if the phone is locked and updated.",
    ),
    (
        "What interest rate should I expect for a {s} today?",
        "The rate for a {s} depends on the provider and on your income.",
    ),
    (
        "Can two people share a {s} with equal rights?",
        "Yes, many providers let two people hold a {s} if both of them sign.",
    ),
    (
        "What should I check before I sign for a {s}?",
        "Before you sign for a {s}, read the fees, the term and the notice period.",
    ),
    (
        "Whom do I call when my {s} has been misused?",
        "Call the emergency line at once and ask to have the {s} blocked.",
    ),
    (
        "I want to move my {s} to another bank, how?",
        "Ask the new bank to move the {s}; it will contact the old one.",
    ),
    (
        "At what age may somebody apply for a {s}?",
        "Most providers offer a {s} from the age of eighteen, some of them earlier.",
    ),
    (
        "Do I pay anything if I close my {s} early?",
        "Closing a {s} early may cost a fee, which the contract names.",
    ),
    (
        "My neighbour recommended a {s}, is it worth it?",
        "A {s} is worth it if you use it often and its fees are low.",
    ),
    (
        "What happens to my {s} if I move abroad?",
        "You can often keep the {s}, but tell your provider the new address.",
    ),
    (
        "Please explain in simple words how a {s} works.",
        "With a {s} you agree on terms once and then follow them every month.",
    ),
    (
        "I forgot the password for my {s}, what now?",
        "Reset the password for the {s} online or ask for a letter with a new one.",
    ),
    (
        "Are there any tax rules that concern a {s}?",
        "Tax rules for a {s} differ, so ask an adviser about your own case.",
    ),
    (
        "Who can see the statements of my {s}?",
        "Only you, and people whom you authorise, can see the statements of the {s}.",
    ),
    (
        "Could you compare a {s} with keeping cash at home?",
        "A {s} is safer than cash at home and leaves a clear record.",
    ),
    (
        "Why was my request for a {s} turned down?",
        "A {s} is often refused when the income or the records look too weak.",
    ),
    (
        "Name one advantage and one drawback of a {s}.",
        "A {s} is convenient, but it binds you to the terms of one provider.",
    ),
    (
        "Is there a limit on how much I can spend with a {s}?",
        "Most providers set a limit for a {s}, and you may ask to change it.",
    ),
    (
        "My parents want to open a {s} for my sister, may they?",
        "Parents may open a {s} for a child if they bring the right papers.",
    ),
    (
        "When will the first payment for my {s} be due?",
        "The first payment for a {s} is usually due at the end of the month.",
    ),
    (
        "Which questions should I ask an adviser about a {s}?",
        "Ask about the fees of the {s}, how long it runs and how to end it.",
    ),
    (
        "Tell me how I can protect my {s} against fraud.",
        "Keep the codes of your {s} secret and check the statements every week.",
    ),
    (
        "Would a freelancer get a {s} without a steady income?",
        "Yes, a freelancer may get a {s} with tax records of the last years.",
    ),
    (
        "Somebody called me about my {s}, should I trust them?",
        "Do not share any codes of your {s}; end the call and ring the provider.",
    ),
    (
        "Give me three tips for choosing the right {s}.",
        "Compare fees, read reviews, and take the {s} that fits your habits.",
    ),
    (
        "Since my wedding my name is different, does my {s} change?",
        "The {s} stays the same, but hand in the certificate so the name is changed.",
    ),
    (
        "How do online providers offer a {s} so cheaply?",
        "They have no branches to pay for, so a {s} costs them less.",
    ),
    (
        "After the holidays my {s} was overdrawn, is that bad?",
        "A short overdraft of a {s} is no disaster, but pay it back soon.",
    ),
    (
        "In what way does a {s} affect my credit score?",
        "A {s} that you use with care tends to improve your score slowly.",
    ),
    (
        "Let us talk about the small print of a {s}, what matters?",
        "In the small print of a {s}, notice periods and fees matter most.",
    ),
    (
        "The machine kept my papers for the {s}, whom do I tell?",
        "Tell the staff at the counter, who will find the papers for the {s}.",
    ),
)

_DISHES = (
    "pancakes",
    "risotto",
    "lasagna",
    "lentil soup",
    "omelettes",
    "dumplings",
    "curry",
    "meatballs",
    "gnocchi",
    "waffles",
    "goulash",
    "paella",
)
_COOKING = _frames(
    (
        "How long does it take to make {s} at home?",
        "Plan about forty minutes for {s}, including the time to prepare everything.",
    ),
    (
        "Which ingredients do I need to make {s}?",
        "For {s} you need a few fresh basics, salt, fat and some patience.",
    ),
    (
        "Can I make {s} without using any butter?",
        "Yes, oil works well for {s}, though the taste becomes a little lighter.",
    ),
    (
        "How do I keep {s} warm until my guests arrive?",
        "Cover the dish and keep {s} in a low oven until you serve dinner.",
    ),
    (
        "What side dish would you serve with {s}?",
        "A crisp green salad with a light dressing goes well with {s}.",
    ),
    (
        "Is it possible to freeze {s} for later?",
        "Let {s} cool first, then freeze small portions in closed boxes.",
    ),
    (
        "Why did my {s} turn out so dry yesterday?",
        "The heat was probably too high, so cook {s} more gently next time.",
    ),
    (
        "Which spices give {s} a stronger taste?",
        "Pepper, paprika and a little garlic give {s} a stronger taste.",
    ),
    (
        "Can you suggest a quick recipe for {s} tonight?",
        "Prepare everything first, then cook {s} over medium heat and season at the end.",
    ),
    (
        "How many portions of {s} should I make for six people?",
        "Make about eight portions of {s}, so that some guests can take seconds.",
    ),
    (
        "Which pan is best suited for preparing {s}?",
        "A wide, heavy pan spreads the heat evenly and suits {s} well.",
    ),
    (
        "How can I reheat {s} without ruining the taste?",
        "Reheat {s} slowly with a spoonful of water and stir now and then.",
    ),
)

_SKY = (
    "Mars",
    "Jupiter",
    "Saturn",
    "Venus",
    "Neptune",
    "Uranus",
    "Pluto",
    "Sirius",
    "Betelgeuse",
    "Vega",
    "Capella",
    "Andromeda",
)
_ASTRONOMY = _frames(
    (
        "Can I see {s} tonight without a telescope?",
        "That depends on the night, so check a star chart for {s} before you look.",
    ),
    (
        "How far away from the Earth is {s}?",
        "The distance to {s} is so great that astronomers measure it with light.",
    ),
    (
        "Since when have astronomers known about {s}?",
        "Old records differ, but astronomers have studied {s} with telescopes for a long time.",
    ),
    (
        "Which telescope would show {s} most clearly?",
        "A telescope with a wide mirror and a steady mount shows {s} best.",
    ),
    (
        "Why does {s} seem to move across the sky?",
        "The Earth turns, and so {s} seems to travel from east to west.",
    ),
    (
        "What is the best season to observe {s}?",
        "The best season is when {s} stands high on clear, dark nights.",
    ),
    (
        "How do astronomers measure the size of {s}?",
        "They compare the brightness of {s} with its distance and work out the size.",
    ),
    (
        "How bright does {s} look in the night sky?",
        "The brightness of {s} changes with its height, the weather and city lights.",
    ),
    (
        "How can I photograph {s} with a simple camera?",
        "Put the camera on a tripod, aim it at {s} and use a long exposure.",
    ),
    (
        "Why does {s} flicker on cold winter nights?",
        "Moving air bends the light, which makes {s} flicker near the horizon.",
    ),
    (
        "What does the colour of {s} tell astronomers?",
        "The colour of {s} tells them about its surface, its gases and its temperature.",
    ),
    (
        "Where in the sky should I look for {s}?",
        "A star map for your town and date shows where to find {s}.",
    ),
)

_PRODUCTS = (
    "desk lamp",
    "floor lamp",
    "night light",
    "wall clock",
    "table fan",
    "radio",
    "kettle",
    "toaster",
    "vacuum cleaner",
    "coffee machine",
    "heater",
    "humidifier",
    "loudspeaker",
    "doorbell",
    "torch",
    "lantern",
    "thermostat",
    "camera",
    "power supply",
    "weather station",
    "projector",
    "water filter",
    "hair dryer",
    "sewing machine",
)
_COMPANY = _frames(
    (
        "Does {c} sell a {s} with a long warranty?",
        "Yes, the {s} is sold with a warranty of two years.",
    ),
    (
        "How much does the {s} from {c} cost?",
        "The {s} costs about as much as similar products in other shops.",
    ),
    (
        "Where can I buy the new {s} by {c}?",
        "You can buy the {s} in the online shop or in larger stores.",
    ),
    (
        "How do I clean my {s} from {c}?",
        "Unplug the {s} first and wipe it with a soft, dry cloth.",
    ),
    (
        "Is the {s} by {c} easy to set up?",
        "Yes, the {s} is ready within minutes if you follow the short guide.",
    ),
    (
        "In which colours does {c} offer the {s}?",
        "The {s} is offered in white, in black and in grey.",
    ),
    (
        "Can I return my {s} to {c} after two weeks?",
        "Yes, you can return the {s} within thirty days with the receipt.",
    ),
    (
        "How much power does the {s} from {c} use?",
        "The label on the {s} states its power, which is fairly low.",
    ),
    (
        "Would you recommend the {s} from {c} to a student?",
        "Yes, the smallest {s} of the range is cheap and suits a student well.",
    ),
    (
        "What do other makers do better than {c} with the {s}?",
        "Other makers offer more functions, while this {s} is solid and simple.",
    ),
    (
        "My {c} {s} stopped working this morning, what now?",
        "Check the plug first, then ask the service team about the {s}.",
    ),
    (
        "Could you write a short review of the {s} by {c}?",
        "The {s} is well made, easy to use and fairly priced.",
    ),
    (
        "Please describe the design of the {s} made by {c}.",
        "The {s} has a plain, rounded design that fits most rooms.",
    ),
    (
        "Who makes the parts of the {c} {s}?",
        "Several suppliers make the parts of the {s}, which is assembled centrally.",
    ),
    (
        "Would a {c} {s} be a good present for my parents?",
        "Yes, a {s} is a useful present for people who like simple things.",
    ),
    (
        "Since when has {c} been making the {s}?",
        "The {s} has been part of the range for several years.",
    ),
)

TOPICS = {
    "gardening": Topic(
        frames=_GARDENING,
        subjects=_FLOWERS,
        keywords=("garden", "gardening", "gardener", "soil", "fertilizer", "flower", "flower bed", "peony", *_FLOWERS),
    ),
    "banking": Topic(
        frames=_BANKING,
        subjects=_PRODUCTS_OF_A_BANK,
        keywords=("bank", "banking", "loan", "interest rate", "mortgage", *_PRODUCTS_OF_A_BANK),
    ),
    "cooking": Topic(
        frames=_COOKING,
        subjects=_DISHES,
        keywords=("cook", "cooking", "recipe", "ingredient", "kitchen", "oven", "side dish", *_DISHES),
    ),
    "astronomy": Topic(
        frames=_ASTRONOMY,
        subjects=_SKY,
        keywords=("astronomy", "astronomer", "telescope", "planet", "galaxy", "night sky", *_SKY),
    ),
    # Two made-up companies with the same products and the same questions: only the name tells them apart.
    "lumora": Topic(frames=_named(_COMPANY, "Lumora"), subjects=_PRODUCTS, keywords=("Lumora",)),
    "tavento": Topic(frames=_named(_COMPANY, "Tavento"), subjects=_PRODUCTS, keywords=("Tavento",)),
}


def check_topics(*names: str) -> None:
    """Raise a ValueError for a topic that there are no texts for."""
    for name in names:
        if name not in TOPICS:
            hint = did_you_mean(name, TOPICS) or f"; known: {', '.join(TOPICS)}"
            raise ValueError(f"there are no texts for the topic '{name}'{hint}")


def keywords_of(topic: str) -> tuple[str, ...]:
    """Return the words that give a topic away; for one that has no texts here, its name."""
    return TOPICS[topic].keywords if topic in TOPICS else (topic,)
