"""The subjects of the demo catalogue, each with the words that all its shows share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Subject:
    """A category of the catalogue: PodcastIndex's id and name, and its words."""

    category_id: int
    name: str
    nouns: tuple[str, ...]
    adjectives: tuple[str, ...]
    verbs: tuple[str, ...]
    people: tuple[str, ...]


def _subject(
    category_id: int, name: str, nouns: str, adjectives: str, verbs: str, people: str
) -> Subject:
    return Subject(
        category_id,
        name,
        tuple(nouns.split(", ")),
        tuple(adjectives.split(", ")),
        tuple(verbs.split(", ")),
        tuple(people.split(", ")),
    )


SUBJECTS = (
    _subject(
        102,
        "Technology",
        "software, server, database, network, processor, algorithm, interface, protocol, browser, "
        "laptop, keyboard, cloud, data centre, developer tool, operating system, encryption, "
        "password, chip, codebase, prototype, dashboard, bug report, release, benchmark, cache",
        "open-source, distributed, encrypted, scalable, buggy, automated, low-level, backward "
        "compatible, real-time, stateless, well documented",
        "compile, deploy, debug, refactor, patch, encrypt, automate, benchmark, ship, roll back, "
        "log, cache",
        "engineers, maintainers, system administrators, hackers, designers, beta testers",
    ),
    _subject(
        67,
        "Science",
        "experiment, hypothesis, laboratory, molecule, particle, telescope, measurement, theory, "
        "equation, observation, sample, microscope, gene, atom, orbit, spectrum, reaction, "
        "evidence, model, journal, peer review, galaxy, protein, field study, instrument",
        "empirical, theoretical, microscopic, reproducible, quantum, genetic, chemical, "
        "astronomical, statistical, controlled, unexpected",
        "measure, observe, replicate, calculate, publish, detect, sequence, predict, falsify, "
        "calibrate, model, test",
        "physicists, biologists, astronomers, chemists, graduate students, statisticians",
    ),
    _subject(
        28,
        "History",
        "empire, treaty, dynasty, archive, battle, manuscript, revolution, monarchy, trade route, "
        "colony, siege, parliament, century, kingdom, letter, chronicle, uprising, fortress, coin, "
        "republic, succession, census, harbour, alliance, ruin",
        "medieval, imperial, ancient, forgotten, contested, colonial, royal, archival, feudal, "
        "revolutionary, wartime",
        "conquer, excavate, chronicle, abdicate, negotiate, translate, besiege, inherit, crown, "
        "govern, rebel, commemorate",
        "historians, soldiers, merchants, archivists, monks, ambassadors",
    ),
    _subject(
        29,
        "Health",
        "patient, symptom, diet, sleep, immune system, clinic, exercise, heart rate, therapy, "
        "diagnosis, vitamin, hormone, muscle, stress, habit, blood pressure, recovery, medicine, "
        "dose, breath, posture, appetite, inflammation, checkup, anxiety",
        "chronic, preventive, clinical, restful, healthy, mindful, nutritional, physical, mental, "
        "evidence-based, gentle",
        "treat, stretch, heal, breathe, prescribe, diagnose, prevent, rest, digest, recover, "
        "strengthen, relax",
        "doctors, nurses, therapists, patients, dietitians, physiotherapists",
    ),
    _subject(
        9,
        "Business",
        "market, startup, investor, revenue, customer, margin, supply chain, brand, contract, "
        "salary, budget, pricing, merger, dividend, manager, shareholder, invoice, inventory, "
        "forecast, cash flow, quarter, franchise, loan, negotiation, competitor",
        "profitable, risky, lean, corporate, competitive, undervalued, seasonal, quarterly, "
        "strategic, bankrupt, fast-growing",
        "invest, hire, negotiate, sell, budget, acquire, advertise, borrow, outsource, expand, "
        "price, restructure",
        "founders, accountants, economists, shareholders, sales people, bankers",
    ),
    _subject(
        53,
        "Music",
        "melody, chord, rhythm, guitar, album, drummer, chorus, studio, orchestra, concert, lyric, "
        "bass line, tempo, harmony, record label, tour, piano, microphone, encore, songwriter, "
        "key change, riff, mixing desk, vocal, string section",
        "acoustic, melodic, syncopated, live, orchestral, catchy, improvised, distorted, "
        "minor-key, "
        "soulful, polyphonic",
        "compose, record, rehearse, strum, sing, mix, arrange, improvise, tune, perform, sample, "
        "harmonise",
        "singers, producers, drummers, conductors, session players, fans",
    ),
    _subject(
        6,
        "Food",
        "recipe, kitchen, flour, oven, spice, restaurant, sauce, knife, dough, vegetable, menu, "
        "butter, stock, harvest, flavour, dessert, ferment, pan, market stall, chef, olive oil, "
        "seasoning, broth, pastry, table",
        "crispy, fermented, seasonal, savoury, slow-cooked, smoky, fresh, buttery, sour, "
        "home-made, roasted",
        "bake, simmer, chop, season, knead, roast, taste, whisk, fry, marinate, plate, ferment",
        "cooks, bakers, farmers, waiters, butchers, grandmothers",
    ),
    _subject(
        86,
        "Sports",
        "season, coach, match, stadium, referee, training, championship, league, goal, striker, "
        "transfer, sprint, medal, defence, injury, tactic, scoreboard, captain, tournament, "
        "penalty, locker room, final, substitute, record, rival",
        "unbeaten, defensive, athletic, injured, competitive, explosive, tactical, veteran, "
        "exhausted, underdog, world-class",
        "score, train, defend, sprint, tackle, qualify, compete, pass, coach, win, lose, recover",
        "players, coaches, referees, supporters, scouts, rookies",
    ),
    _subject(
        103,
        "True Crime",
        "detective, witness, suspect, alibi, evidence, courtroom, verdict, jury, motive, "
        "fingerprint, confession, cold case, police report, crime scene, prosecutor, sentence, "
        "interrogation, informant, warrant, forgery, ransom, autopsy, testimony, trial, victim",
        "unsolved, forensic, circumstantial, suspicious, guilty, missing, anonymous, sealed, "
        "wrongful, notorious, chilling",
        "investigate, confess, testify, interrogate, convict, disappear, accuse, forge, escape, "
        "appeal, arrest, identify",
        "detectives, prosecutors, witnesses, reporters, jurors, neighbours",
    ),
    _subject(
        74,
        "Nature",
        "forest, river, bird, habitat, species, mountain, trail, ocean, meadow, predator, seed, "
        "soil, storm, glacier, wetland, nest, migration, reef, fungus, pollinator, canopy, coast, "
        "tide, burrow, season",
        "wild, endangered, migratory, native, coastal, nocturnal, fragile, alpine, invasive, "
        "ancient, rewilded",
        "hike, conserve, migrate, bloom, forage, nest, hunt, plant, observe, restore, shelter, "
        "hibernate",
        "rangers, botanists, birdwatchers, foresters, hikers, divers",
    ),
)
