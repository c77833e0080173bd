"""The shows of the demo catalogue, each with its own terms.

Shows of one subject share that subject's words, and a show with a ``second`` subject borrows from
there too: subjects are separable, and they overlap.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Show:
    """A show: its subject (and a second one it borrows from), hosts, and its own terms."""

    title: str
    subject: str
    hosts: tuple[str, str]
    tagline: str
    terms: tuple[str, ...]
    second: str = ""


def _show(title: str, subject: str, hosts: str, tagline: str, terms: str, second: str = "") -> Show:
    first, other = hosts.split(" & ")
    return Show(title, subject, (first, other), tagline, tuple(terms.split(", ")), second)


SHOWS = (
    _show(
        "Kernel Panic",
        "Technology",
        "Priya Nair & Tom Wexler",
        "stories from inside the machine",
        "memory safety, device drivers, the Linux scheduler, file systems, boot loaders, virtual "
        "machines, race conditions, kernel modules, garbage collection, system calls",
    ),
    _show(
        "The Model Zoo",
        "Technology",
        "Lena Hofmann & Marcus Obi",
        "machine learning for people who have to run it",
        "neural networks, training data, recommender systems, language models, feature stores, "
        "gradient descent, model drift, speech recognition, image classifiers, embeddings",
        "Science",
    ),
    _show(
        "Zero Day Diaries",
        "Technology",
        "Iris Calder & Sam Whitlock",
        "security, told by those who were paged",
        "phishing kits, ransomware gangs, zero-day exploits, bug bounties, stolen credentials, "
        "supply-chain attacks, hardware keys, leaked databases, botnets, incident response",
        "True Crime",
    ),
    _show(
        "Green Light, Red Build",
        "Technology",
        "Noor Haddad & Ben Castle",
        "the craft of shipping software",
        "code review, continuous integration, technical debt, flaky tests, feature flags, "
        "release trains, on-call rotations, monorepos, pair programming, legacy systems",
    ),
    _show(
        "Solder & Silicon",
        "Technology",
        "Yuki Tanabe & Greta Olsen",
        "hardware you can hold",
        "circuit boards, solar inverters, home robots, 3D printers, retro computers, battery "
        "packs, radio kits, micro-controllers, electric bicycles, smart meters",
    ),
    _show(
        "Orbital Mechanics",
        "Science",
        "Dr. Amara Okafor & Felix Brandt",
        "space, without the hype",
        "black holes, exoplanets, Mars rovers, gravitational waves, dark matter, solar storms, "
        "comet missions, space telescopes, neutron stars, lunar landers",
    ),
    _show(
        "Small Worlds",
        "Science",
        "Helen Yoshida & Raj Patel",
        "biology at the scale of cells",
        "gut bacteria, gene editing, viral evolution, stem cells, cell membranes, antibiotic "
        "resistance, mitochondria, protein folding, yeast genetics, bacterial biofilms",
        "Health",
    ),
    _show(
        "The Uncertainty Hour",
        "Science",
        "Clara Meinhardt & Joe Adeyemi",
        "physics and the art of not being sure",
        "quantum entanglement, particle colliders, superconductors, entropy, atomic clocks, "
        "neutrinos, chaos theory, string theory, cold fusion, symmetry",
    ),
    _show(
        "Deep Time",
        "Science",
        "Martin Lowe & Sofia Reyes",
        "rocks, bones and the long view",
        "dinosaur fossils, plate tectonics, ice cores, mass extinctions, volcanic eruptions, "
        "meteor craters, early mammals, ocean sediments, fossil footprints, ancient climates",
        "Nature",
    ),
    _show(
        "Roads to Rome",
        "History",
        "Julia Marchetti & Owen Price",
        "the ancient world, one street at a time",
        "Roman aqueducts, gladiator schools, the Punic Wars, Pompeii, senate politics, legion "
        "camps, Greek theatre, the fall of Carthage, imperial taxes, Latin graffiti",
    ),
    _show(
        "The Long Nineteenth",
        "History",
        "Edith Warren & Karim Saleh",
        "steam, empire and revolt from 1789 to 1914",
        "railway mania, the Paris Commune, whaling ships, the telegraph, cotton mills, Napoleon's "
        "marshals, the abolition movement, gold rushes, cholera maps, world exhibitions",
    ),
    _show(
        "Silk and Salt",
        "History",
        "Mei-Ling Zhao & David Kaplan",
        "how trade made the world",
        "the Silk Road, spice merchants, Venetian bankers, Viking raiders, salt caravans, the "
        "East India companies, medieval fairs, pirate havens, porcelain fleets, Hanseatic towns",
        "Business",
    ),
    _show(
        "Voices from the Front",
        "History",
        "Robert Hale & Anneke de Vries",
        "wars, in the words of those who were there",
        "trench letters, code breakers, the Blitz, resistance networks, the Berlin airlift, "
        "field hospitals, convoy sailors, prisoner camps, the Marshall Plan, war correspondents",
    ),
    _show(
        "Sleep on It",
        "Health",
        "Dr. Nadia Rahman & Luke Ferris",
        "everything about a third of your life",
        "insomnia, circadian rhythms, power naps, dream research, sleep apnoea, night shifts, "
        "blue light, bedtime routines, jet lag, deep sleep",
        "Science",
    ),
    _show(
        "The Plain Checkup",
        "Health",
        "Dr. Paul Eriksen & Maya Collins",
        "a doctor and a patient talk straight",
        "high cholesterol, migraine, vaccines, back pain, allergies, diabetes, antibiotics, knee "
        "surgery, family doctors, waiting rooms",
    ),
    _show(
        "Strong Enough",
        "Health",
        "Tessa Grant & Malik Johnson",
        "training for the rest of your life",
        "strength training, marathon plans, yoga, mobility drills, protein intake, warm-ups, "
        "running shoes, core workouts, rest days, swimming",
        "Sports",
    ),
    _show(
        "Quiet Mind",
        "Health",
        "Ana Lucía Vega & Peter Strand",
        "mental health without slogans",
        "panic attacks, meditation, burnout, grief, talk therapy, social anxiety, journaling, "
        "loneliness, phone addiction, self-compassion",
    ),
    _show(
        "Runway",
        "Business",
        "Dana Kessler & Arjun Mehta",
        "founders on the months that nearly ended it",
        "seed rounds, pitch decks, co-founder fights, pivoting, venture capital, bootstrapping, "
        "first hires, burn rates, exit offers, subscription pricing",
        "Technology",
    ),
    _show(
        "Balance Sheet Stories",
        "Business",
        "Grace Lindholm & Tony Russo",
        "company accounts, read aloud",
        "accounting scandals, hedge funds, bond markets, bank runs, private equity, tax havens, "
        "index funds, inflation, pension schemes, short sellers",
    ),
    _show(
        "The Corner Shop",
        "Business",
        "Fatima Aziz & Will Brennan",
        "small firms with big problems",
        "family firms, food trucks, online shops, local breweries, shop leases, loyalty cards, "
        "craft fairs, bookshops, word of mouth, delivery apps",
        "Food",
    ),
    _show(
        "Out of Office",
        "Business",
        "Ingrid Solberg & Chris Tan",
        "how work works now",
        "remote work, four-day weeks, job interviews, office politics, performance reviews, "
        "unions, parental leave, career changes, meetings, freelancing",
    ),
    _show(
        "Side B",
        "Music",
        "Joni Abrams & Theo Laurent",
        "the songs nobody released as singles",
        "concept albums, vinyl pressings, lost demos, cover versions, protest songs, bedroom "
        "recordings, punk rock, bootleg tapes, album sleeves, farewell tours",
    ),
    _show(
        "Blue Notes",
        "Music",
        "Cedric Moss & Hannah Weiss",
        "jazz for ears that want to know",
        "bebop, trumpet solos, Blue Note records, swing bands, modal jazz, walking bass, jam "
        "sessions, Brazilian bossa nova, brush drumming, jazz clubs",
    ),
    _show(
        "The Score",
        "Music",
        "Elena Petrova & James Whitaker",
        "classical and film music, bar by bar",
        "film scores, string quartets, Bach fugues, opera houses, conducting, piano concertos, "
        "requiems, sonata form, Mahler symphonies, period instruments",
    ),
    _show(
        "Patch Cable",
        "Music",
        "Dev Kapoor & Robin Vance",
        "synthesisers and the people who love them",
        "modular synthesisers, drum machines, techno, sampling, club sound systems, ambient "
        "music, tape loops, vocoders, remixes, field recordings",
        "Technology",
    ),
    _show(
        "Crumb",
        "Food",
        "Rosalind Pike & Mateo Silva",
        "a show about bread, mostly",
        "sourdough starters, rye bread, croissants, pizza dough, wood-fired ovens, flour mills, "
        "gluten, bagels, flatbreads, brioche",
    ),
    _show(
        "Heat and Salt",
        "Food",
        "Adaeze Eze & Colin Mercer",
        "why cooking works",
        "knife skills, cast-iron pans, chilli peppers, pressure cookers, umami, emulsions, "
        "caramelised onions, dry rubs, stocks, egg dishes",
        "Science",
    ),
    _show(
        "Second Helping",
        "Food",
        "Nonna Bianca & Louis Garnier",
        "family recipes and the families behind them",
        "Sunday roasts, ramen broth, dumplings, tamales, holiday baking, pickles, street food, "
        "curry pastes, jam making, school lunches",
    ),
    _show(
        "From the Vine",
        "Food",
        "Isabel Monteiro & Graham Bell",
        "wine, cheese and coffee, from soil to cup",
        "natural wine, coffee roasting, blue cheese, olive groves, tea ceremonies, cider "
        "orchards, vineyards, espresso machines, cacao farms, craft beer",
        "Nature",
    ),
    _show(
        "The Offside Trap",
        "Sports",
        "Gary Donovan & Leila Benali",
        "football tactics, argued over",
        "high pressing, set pieces, transfer windows, goalkeepers, relegation battles, false "
        "nines, penalty shoot-outs, youth academies, derby days, video referees",
    ),
    _show(
        "Breakaway",
        "Sports",
        "Lars Nyborg & Camille Roche",
        "cycling and endurance, uphill",
        "the Tour de France, mountain stages, gravel racing, triathlon, time trials, altitude "
        "camps, cobbled classics, doping tests, ultra-marathons, team cars",
    ),
    _show(
        "Full Court",
        "Sports",
        "Deshawn Carter & Amy Liu",
        "basketball from the bench",
        "three-pointers, draft picks, pick and roll, zone defence, playoff series, college "
        "basketball, slam dunks, salary caps, buzzer beaters, women's leagues",
    ),
    _show(
        "Match Point",
        "Sports",
        "Serena Volkov & Nick Ashby",
        "tennis, chess and other duels",
        "grass courts, second serves, chess openings, boxing rings, fencing, Wimbledon finals, "
        "judo throws, grandmasters, clay-court specialists, tie-breaks",
    ),
    _show(
        "Cold Ground",
        "True Crime",
        "Molly Sinclair & Frank Dorsey",
        "unsolved cases from small towns",
        "missing hikers, unmarked graves, small-town sheriffs, roadside motels, the last phone "
        "call, search parties, a burned barn, hitchhikers, lake mysteries, anonymous tips",
    ),
    _show(
        "The Forger's Hand",
        "True Crime",
        "Vivian Cross & Alan Petrie",
        "heists, frauds and fakes",
        "art forgery, museum heists, con artists, counterfeit money, Ponzi schemes, stolen "
        "violins, diamond thieves, identity theft, insurance fraud, wine fraud",
        "Business",
    ),
    _show(
        "Reasonable Doubt Hour",
        "True Crime",
        "Naomi Feld & Carlos Ibarra",
        "trials that turned",
        "wrongful convictions, DNA evidence, jury selection, false confessions, expert "
        "witnesses, plea bargains, death row appeals, courtroom sketches, cross-examination, "
        "innocence projects",
    ),
    _show(
        "Poison Cabinet",
        "True Crime",
        "Beatrice Holloway & Simon Gray",
        "historical murders, solved with hindsight",
        "Victorian poisoners, arsenic, Scotland Yard, royal murders, grave robbers, gaslight "
        "London, country-house murders, early forensics, hangmen, penny newspapers",
        "History",
    ),
    _show(
        "Understory",
        "Nature",
        "Wren Halloway & Tomás Ortega",
        "walking slowly through forests",
        "old-growth forests, mushrooms, owls, mosses, wolf packs, tree rings, forest fires, "
        "beavers, leaf litter, bark beetles",
    ),
    _show(
        "Tideline",
        "Nature",
        "Kai Nakamura & Fiona Drummond",
        "the sea and its edges",
        "coral bleaching, humpback whales, kelp forests, octopuses, sea turtles, tide pools, "
        "deep-sea vents, plastic pollution, seabird colonies, shark tagging",
        "Science",
    ),
    _show(
        "The Slow Garden",
        "Nature",
        "Agnes Moller & Ravi Menon",
        "growing things, and waiting",
        "compost, wildflower meadows, tomatoes, honey bees, pruning roses, raised beds, seed "
        "saving, slugs, rain gardens, fruit trees",
        "Food",
    ),
    _show(
        "Above the Treeline",
        "Nature",
        "Stefan Gruber & Lhamo Dorje",
        "mountains and the weather on them",
        "avalanches, Himalayan expeditions, snow leopards, glacier retreat, mountain huts, thru-"
        "hiking, golden eagles, rock climbing, alpine flowers, thunderstorms",
        "Sports",
    ),
    _show(
        "Wing and Feather",
        "Nature",
        "Dorothy Finch & Abel Mwangi",
        "birds, birders and dawn choruses",
        "bird migration, nest boxes, hummingbirds, dawn choruses, crows, ringing stations, "
        "penguins, falconry, hedgerows, starling murmurations",
    ),
)
