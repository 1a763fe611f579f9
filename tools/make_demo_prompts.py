"""Write data/prefkit_data/demo_prompts.jsonl from the lists below; the same bytes on every run.

    python tools/make_demo_prompts.py [OUT]

A prompt is one question frame of a topic, one subject of that topic, and one format instruction
that a reader can check by eye. Training and held-out prompts share no topic. All lists were
written for prefkit; nothing was copied. The digest printed goes into data/README.md.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from pathlib import Path

N_HELDOUT = 256
N_TRAIN = 600
SEED = 20261121

# format tag → wordings, all of which ask for the same thing
INSTRUCTIONS = {
    "max_words:12": (
        "Answer in at most 12 words.",
        "Use no more than 12 words.",
        "Reply with 12 words or fewer.",
    ),
    "max_words:15": (
        "Answer in at most 15 words.",
        "Use no more than 15 words.",
        "Reply with 15 words or fewer.",
    ),
    "max_words:20": (
        "Answer in at most 20 words.",
        "Use no more than 20 words.",
        "Reply with 20 words or fewer.",
    ),
    "one_sentence": (
        "Answer in one sentence.",
        "Reply with exactly one sentence.",
        "Use a single sentence.",
    ),
    "bullets:3": (
        "Answer with exactly three bullet points.",
        "Give your answer as 3 bullet points.",
        "Reply with a list of exactly three bullets.",
    ),
}
# Eight prompts in order take these formats: half a word limit, a quarter each of the others.
MIX = (
    "max_words:12",
    "one_sentence",
    "max_words:15",
    "bullets:3",
    "max_words:20",
    "one_sentence",
    "max_words:15",
    "bullets:3",
)

# topic → (question frames, subjects separated by commas)
Topics = dict[str, tuple[tuple[str, ...], str]]

TRAIN: Topics = {
    "animals": (
        ("What does {} eat?", "Describe {} to a child.", "How does {} stay safe from danger?"),
        "a hedgehog, an owl, a penguin, a dolphin, a camel, a beaver, a bat, a snail, a giraffe, "
        "an octopus",
    ),
    "weather": (
        ("What causes {}?", "How should I prepare for {}?", "Describe {} as you would in a story."),
        "thunder, fog, a heat wave, hail, a rainbow, snow, a strong wind, frost, drizzle, "
        "a drought",
    ),
    "kitchen": (
        ("How do I use {}?", "How do I clean {}?", "What can I cook with {}?"),
        "a wok, a pressure cooker, a cast iron pan, a blender, a toaster oven, a rice cooker, "
        "a grater, a rolling pin, a steamer basket, a slow cooker",
    ),
    "fruit": (
        ("How can I tell that {} is ripe?", "Describe the taste of {}.", "How should I store {}?"),
        "a mango, an avocado, a pear, a melon, a banana, a peach, a pineapple, a kiwi, a fig, "
        "a plum",
    ),
    "garden": (
        ("How do I grow {}?", "When should I water {}?", "Why would someone plant {}?"),
        "tomatoes, basil, roses, carrots, lavender, sunflowers, strawberries, mint, pumpkins, "
        "tulips",
    ),
    "jobs": (
        (
            "What does {} do all day?",
            "What skills does {} need?",
            "What is the hardest part of being {}?",
        ),
        "a nurse, a baker, a bus driver, a librarian, a plumber, a teacher, a farmer, a pilot, "
        "an electrician, a journalist",
    ),
    "sports": (
        (
            "What are the basic rules of {}?",
            "How does a beginner start with {}?",
            "Why do people enjoy {}?",
        ),
        "swimming, tennis, basketball, rowing, climbing, badminton, cycling, judo, volleyball, "
        "table tennis",
    ),
    "music": (
        (
            "How is {} played?",
            "What does {} sound like?",
            "Give advice to someone who is learning {}.",
        ),
        "the violin, the trumpet, the drums, the flute, the piano, the harp, the guitar, "
        "the cello, the accordion, the banjo",
    ),
    "health": (
        (
            "Why is {} good for us?",
            "How can I get better at {}?",
            "What stops people from {}?",
        ),
        "sleeping well, drinking water, walking daily, stretching, eating vegetables, "
        "washing hands, sitting upright, breathing slowly, resting, wearing sunscreen",
    ),
    "school": (
        (
            "How do I improve at {}?",
            "Why do schools teach {}?",
            "What makes {} hard for some students?",
        ),
        "spelling, algebra, history, essay writing, chemistry, reading aloud, geometry, "
        "public speaking, biology, drawing",
    ),
    "home_repair": (
        ("How do I fix {}?", "What causes {}?", "When should I call an expert about {}?"),
        "a dripping tap, a squeaky door, a blocked sink, a loose tile, a stuck drawer, "
        "a flickering light, a running toilet, a cracked wall, a drafty window, a noisy fridge",
    ),
    "space": (
        ("What is {}?", "Why do scientists study {}?", "Describe {} in a poetic way."),
        "the Moon, Mars, a comet, the Sun, a black hole, Saturn, a galaxy, a meteor, Jupiter, "
        "the Milky Way",
    ),
    "feelings": (
        ("What is {}?", "How can a person deal with {}?", "Describe {} as a colour."),
        "jealousy, boredom, gratitude, stage fright, homesickness, pride, anger, hope, curiosity, "
        "loneliness",
    ),
    "money": (
        ("What is {}?", "Give advice about {} to a teenager.", "What mistake is common with {}?"),
        "a budget, a loan, a savings account, a credit card, insurance, a tax, an allowance, "
        "a pension, interest, a receipt",
    ),
    "history": (
        (
            "Why was {} important?",
            "How did {} change daily life?",
            "What came before {}?",
        ),
        "the printing press, the steam engine, the wheel, the telephone, the compass, paper, "
        "the light bulb, the sailing ship, the clock, the plough",
    ),
    "party": (
        ("How do I plan {}?", "What food suits {}?", "Write an invitation to {}."),
        "a birthday party, a picnic, a game night, a wedding, a housewarming, a costume party, "
        "a farewell dinner, a school fair, a barbecue, a surprise party",
    ),
    "stories": (
        (
            "Write the opening of a story about {}.",
            "Invent a title and a plot about {}.",
            "What lesson could a tale about {} teach?",
        ),
        "a lost robot, a talking cat, a hidden door, a brave mouse, an old lighthouse, "
        "a magic pencil, a sleepy dragon, a secret map, a shy ghost, a singing river",
    ),
    "computers": (
        ("What is {}?", "Why does {} matter?", "How would you explain {} to a grandparent?"),
        "a password, a web browser, an operating system, a backup, a computer virus, Wi-Fi, "
        "an email attachment, a search engine, a spreadsheet, a software update",
    ),
    "clothes": (
        ("How do I wash {}?", "When would I wear {}?", "How do I choose {}?"),
        "a wool sweater, a raincoat, running shoes, a silk scarf, denim jeans, leather boots, "
        "a linen shirt, a winter hat, gloves, a swimsuit",
    ),
    "manners": (
        ("How do I politely {}?", "Why can it be hard to {}?", "What should I say when I {}?"),
        "decline an invitation, ask for help, say sorry, interrupt a meeting, thank a neighbour, "
        "complain in a shop, give bad news, leave a party early, ask for a raise, greet a stranger",
    ),
}

HELDOUT: Topics = {
    "insects": (
        ("What does {} look like?", "Why is {} useful in nature?", "Where does {} live?"),
        "a bee, an ant, a butterfly, a dragonfly, a ladybird, a cricket, a moth, a firefly, "
        "a beetle, a grasshopper",
    ),
    "drinks": (
        (
            "How do I make {}?",
            "Describe {} to someone who never had it.",
            "When is {} best served?",
        ),
        "green tea, lemonade, hot chocolate, espresso, a smoothie, apple cider, iced coffee, "
        "ginger tea, a milkshake, tomato juice",
    ),
    "travel": (
        ("What should I pack for {}?", "What can go wrong on {}?", "Why do people like {}?"),
        "a beach holiday, a ski trip, a train journey, a camping weekend, a city break, "
        "a long flight, a road trip, a hiking tour, a cruise, a safari",
    ),
    "pets": (
        ("How do I care for {}?", "What should I know before getting {}?", "How do I train {}?"),
        "a puppy, a kitten, a rabbit, a parrot, a hamster, a goldfish, a tortoise, a guinea pig, "
        "a pony, a budgie",
    ),
    "geography": (
        ("What is {}?", "How does {} form?", "Describe {} for a travel guide."),
        "a volcano, a desert, an island, a glacier, a waterfall, a canyon, a coral reef, "
        "a river delta, a rainforest, a cave",
    ),
    "art": (
        (
            "What is {}?",
            "How does a beginner try {}?",
            "Why might someone love {}?",
        ),
        "pottery, watercolour painting, photography, origami, sculpture, calligraphy, knitting, "
        "woodcarving, collage, embroidery",
    ),
    "tools": (
        ("What is {} for?", "How do I use {} safely?", "Where should I keep {}?"),
        "a hammer, a ladder, a drill, a handsaw, a screwdriver, a chisel, a wrench, "
        "a tape measure, an axe, a paintbrush",
    ),
    "body": (
        ("What does {} do?", "How can I keep {} healthy?", "Tell a surprising fact about {}."),
        "the heart, the skin, the liver, the brain, the knee, the eye, the stomach, the lungs, "
        "the spine, the ear",
    ),
    "town": (
        ("What happens at {}?", "Why does a town need {}?", "Describe {} on a busy morning."),
        "a post office, a market, a fire station, a park, a train station, a museum, a bakery, "
        "a hospital, a harbour, a town hall",
    ),
}


def questions(topics: Topics) -> list[tuple[str, str]]:
    """(topic, question) of every frame with every subject."""
    return [
        (topic, frame.format(subject.strip()))
        for topic, (frames, subjects) in topics.items()
        for subject in subjects.split(",")
        for frame in frames
    ]


def rows(topics: Topics, split: str, n: int) -> list[dict[str, object]]:
    """``n`` prompts of one split in a fixed shuffled order, formats in the order of MIX."""
    rng = random.Random(f"{SEED}:{split}")
    drawn = questions(topics)
    rng.shuffle(drawn)
    if len(drawn) < n:
        raise SystemExit(f"{split}: {len(drawn)} questions, {n} wanted")
    made: list[dict[str, object]] = []
    for index, (topic, question) in enumerate(drawn[:n]):
        tag = MIX[index % len(MIX)]
        wordings = INSTRUCTIONS[tag]
        instruction = wordings[index // len(MIX) % len(wordings)]
        tags = {"format": tag, "topic": topic, "split": split}
        made.append({"prompt": f"{question} {instruction}", "tags": tags})
    return made


def main() -> None:
    """Write the file and print its digest."""
    default = Path(__file__).parents[1] / "data" / "prefkit_data" / "demo_prompts.jsonl"
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    made = rows(HELDOUT, "heldout", N_HELDOUT) + rows(TRAIN, "train", N_TRAIN)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made)
    out.write_bytes(text.encode())
    sys.stdout.write(f"{hashlib.sha256(text.encode()).hexdigest()}  {len(made)} prompts\n")


if __name__ == "__main__":
    main()
