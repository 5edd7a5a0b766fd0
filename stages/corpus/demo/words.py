"""The words and sentence patterns of the generated reviews: data alone, no code.

Their order is part of what a seed means; a list begins with its common words. Fields in braces are
filled by ``stages.corpus.demo.reviews``: ``{same}`` and ``{opposite}`` are adjectives with the polarity of the label
and against it, ``{thing}``, ``{deed}`` and ``{verdict}`` a noun, a verb and a closing phrase with it,
``{opposite_thing}`` and ``{opposite_deed}`` are against it. A number sets words of one kind apart.
"""

# Label -> words, parted by blanks.
ADJECTIVES: dict[int, str] = {
    1: """
        good great wonderful excellent lovely brilliant superb charming delightful funny beautiful moving clever
        fresh smart enjoyable impressive amazing fantastic fascinating gripping elegant warm bright original
        absorbing accomplished adept admirable adorable affecting alluring amiable amusing appealing arresting
        artful assured astonishing astute authentic awesome beguiling bewitching blissful bold bracing
        breathtaking breezy buoyant candid captivating cheerful classy coherent comforting commendable
        compelling confident congenial convincing cool courageous crisp dazzling deft delicate delicious
        dependable dexterous dignified diverting durable dynamic earnest ebullient ecstatic effective effortless
        electrifying eloquent enchanting endearing energetic engaging engrossing entertaining enthralling
        enticing evocative exceptional exciting exhilarating expert exquisite exuberant fabulous faultless
        felicitous fetching fine flawless fluent flourishing generous genial gentle genuine gifted glorious
        glowing good-natured graceful gracious gratifying handsome harmonious heartening heartfelt heartwarming
        heavenly heroic hilarious honest hopeful humane hypnotic imaginative immaculate immersive impeccable
        incisive infectious ingenious insightful inspired inspiring intelligent intriguing inventive
        invigorating inviting irresistible jolly joyful joyous jubilant judicious keen likable lively lucid
        luminous lush luscious luxurious magical magnificent majestic marvelous masterful masterly memorable
        mesmerizing meticulous mirthful nimble nuanced opulent outstanding patient perceptive perfect persuasive
        phenomenal playful pleasant pleasing pleasurable poetic poignant polished potent priceless pristine
        profound prodigious punchy radiant rapturous ravishing refined refreshing reliable remarkable resonant
        resourceful resplendent rewarding riveting robust rousing satisfying scintillating seamless seductive
        sensational sensitive serene shrewd sincere skillful sleek soothing soulful sparkling spectacular
        spellbinding spirited splendid spotless sprightly stellar stirring strong stunning stylish sublime
        succulent sumptuous supple suave sweet tasteful tasty tender terrific thoughtful thrilling tidy timeless
        touching tranquil transcendent transfixing unforgettable unrivaled uplifting valuable vibrant virtuosic
        visionary vivacious vivid welcoming well-crafted well-judged whimsical winning winsome wise witty
        wondrous worthwhile zesty zippy
        """,
    0: """
        bad boring terrible awful poor dull weak stupid disappointing horrible lame predictable annoying ugly
        silly cheap clumsy messy tedious bland hollow flat tired painful ridiculous abrasive absurd abysmal
        aimless amateurish anemic appalling arduous atrocious awkward banal barren belabored bewildering bitter
        bleary bloated blundering bogus bothersome brainless broken brutish bungled byzantine careless
        cartoonish charmless chaotic clunky cloying clueless coarse cold condescending confused confusing
        contemptible contrived convoluted corny crass cringeworthy crude cumbersome cynical dated deafening
        defective deficient deplorable depressing deranged derivative desultory dim dire disagreeable disastrous
        disgraceful disgusting disheartening dishonest disjointed dismal disorganized dispiriting dissonant
        dodgy dreadful drab dreary droning dubious dysfunctional embarrassing empty erratic exasperating
        excruciating execrable exhausting faceless facile faulty feeble fetid flabby flavorless flawed flimsy
        formulaic foul fraudulent frigid frustrating fumbling fussy futile garbled garish ghastly glib gloomy
        graceless grating grim grimy gross grotesque grubby grueling gruesome hackneyed half-baked half-hearted
        haphazard harsh heartless hideous horrendous humdrum humorless idiotic ill-conceived inane inconsistent
        incoherent incompetent inept inert inexcusable inferior infuriating insipid insufferable insulting
        intolerable irritating jarring joyless juvenile laborious labored lackluster lamentable laughable lazy
        lethargic lifeless limp listless loathsome lousy ludicrous lumbering maddening malodorous mangled
        maudlin meandering meaningless mediocre melodramatic mindless miserable misguided monotonous moronic
        mundane murky nasty nauseating nonsensical obnoxious odious offensive off-putting one-note oppressive
        outdated overblown overlong overrated overwrought paltry pathetic pedestrian pedantic petty plodding
        pointless pompous ponderous preposterous pretentious puerile pungent putrid rancid rickety repellent
        repetitive reprehensible repugnant repulsive revolting rote rotten rude sappy schlocky senseless shabby
        shaky shallow shameful shapeless shoddy sickening simplistic slapdash sleazy sloppy slow sluggish
        slovenly smug soggy soporific sour soulless sordid spiritless stale stilted stodgy stuffy subpar
        superficial tacky tasteless tawdry tepid thankless threadbare tiresome toothless torpid tortuous
        torturous toxic trashy trite trivial turgid unbearable uncomfortable unconvincing uneven unfunny unhappy
        unimaginative uninspired unintelligible unlikable unpleasant unsavory unwatchable unwieldy vacant
        vacuous vapid vexing vile vulgar wasteful watery wearisome woeful wobbly wooden worthless wretched
        """,
}

THINGS: dict[int, str] = {
    1: """
        masterpiece triumph gem joy delight treat treasure marvel wonder success classic pleasure miracle
        revelation winner inspiration bargain feast jewel tour-de-force blessing charmer godsend knockout
        stunner crowd-pleaser landmark powerhouse find sensation celebration breakthrough
        """,
    0: """
        disaster mess bore failure waste disappointment catastrophe flop dud nightmare letdown chore
        embarrassment fiasco travesty insult slog ordeal debacle misfire shambles clunker eyesore trainwreck
        washout rip-off headache blunder calamity abomination stinker farce
        """,
}

DEEDS: dict[int, str] = {
    1: """
        delighted charmed thrilled impressed moved amused enchanted captivated dazzled inspired pleased cheered
        soothed fascinated gladdened enthralled uplifted gratified refreshed invigorated comforted entranced
        tickled enlightened heartened energized rewarded astounded
        """,
    0: """
        bored annoyed disappointed irritated disgusted frustrated angered exhausted depressed insulted
        exasperated appalled repelled infuriated wearied nauseated irked disheartened alienated offended vexed
        cheated revolted tormented dismayed sickened aggravated galled
        """,
}

VERDICTS: dict[int, tuple[str, ...]] = {
    1: (
        "it is worth every penny",
        "I would gladly come back to it",
        "I recommend it to everyone",
        "it stays with you for days",
        "I did not want it to end",
        "I have already told all my friends about it",
        "I smiled from start to finish",
        "they deserve every award they get",
        "it left me wanting more",
        "my family asked for it again the same evening",
        "I cannot wait for the next one",
        "it exceeded every hope I had",
        "this is how it should be done",
        "I would pay twice the price",
        "it won me over within minutes",
        "I could not find one thing to complain about",
        "it earns its place among the best",
        "you should not miss it",
    ),
    0: (
        "it is not worth a penny",
        "I will never come back to it",
        "I would warn everyone against it",
        "I forgot it within the hour",
        "I could not wait for it to end",
        "I asked for my money back",
        "I kept looking at my watch",
        "they should be ashamed of it",
        "I gave up halfway through",
        "my family begged me to stop",
        "I dread the next one",
        "it fell short of every hope I had",
        "this is how it should not be done",
        "I want those hours back",
        "it lost me within minutes",
        "I could not find one thing to praise",
        "it belongs in the bin",
        "you should avoid it",
    ),
}

# A kind of product: its names, then its aspects.
DOMAINS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        ("film", "movie", "thriller", "comedy", "documentary", "sequel", "remake", "western"),
        ("plot", "cast", "script", "ending", "score", "lead", "soundtrack", "opening", "finale", "villain"),
    ),
    (
        ("novel", "book", "memoir", "biography", "paperback", "anthology"),
        ("story", "narrator", "plot", "last chapter", "opening", "translation", "heroine", "tone", "cover"),
    ),
    (
        ("album", "record", "concert", "debut", "single", "live set"),
        ("voice", "production", "melody", "chorus", "rhythm section", "mix", "opener", "beat", "encore"),
    ),
    (
        ("restaurant", "bistro", "cafe", "diner", "pizzeria", "tavern"),
        ("menu", "dessert", "wine list", "atmosphere", "waiter", "soup", "kitchen", "main course", "terrace"),
    ),
    (
        ("hotel", "guesthouse", "resort", "hostel", "inn", "spa"),
        ("room", "breakfast", "location", "bathroom", "lobby", "view", "receptionist", "pool", "garden"),
    ),
    (
        ("phone", "laptop", "camera", "headset", "tablet", "speaker"),
        ("screen", "battery", "design", "manual", "sound", "keyboard", "case", "charger", "menu"),
    ),
    (
        ("game", "puzzle game", "app", "expansion", "adventure game", "simulator"),
        ("interface", "story mode", "soundtrack", "tutorial", "level design", "combat system", "map", "plot"),
    ),
)

DEGREES: tuple[str, ...] = (
    "",
    "",
    "very ",
    "really ",
    "quite ",
    "truly ",
    "decidedly ",
    "rather ",
    "utterly ",
    "remarkably ",
    "deeply ",
    "thoroughly ",
    "surprisingly ",
    "consistently ",
    "downright ",
)

FRAMES: tuple[str, ...] = (
    "",
    "",
    "",
    "",
    "",
    "",
    "to my mind ",
    "in the end ",
    "all things considered, ",
    "from the first minute on ",
    "whatever others write, ",
    "on a second visit ",
)

CRITICS: tuple[str, ...] = (
    "my sister",
    "the critics",
    "a colleague",
    "the newspaper",
    "everybody at work",
    "the jury",
    "half the internet",
    "an old friend",
    "the woman next to me",
    "the brochure",
)

# Family -> weight in the mix, patterns.
FAMILIES: dict[str, tuple[float, tuple[str, ...]]] = {
    "plain": (
        0.44,
        (
            "{frame}the {aspect} is {degree}{same}",
            "{frame}this is a {degree}{same} {product} with a {same2} {aspect}",
            "{frame}the {aspect} is {same} and the {aspect2} {degree}{same2}",
            "{frame}the {product} {deed} me",
            "a {same} {product}, a {thing}",
            "{same}, {same2} and {degree}{same3}",
            "what a {thing} this {product} is",
            "{frame}the {aspect} alone makes it a {same} {thing}",
            "{frame}the {product} left me {deed}; {verdict}",
        ),
    ),
    "negation": (
        0.12,
        (
            "{frame}the {aspect} is not {opposite}",
            "{frame}the {aspect} is never {opposite} and hardly ever {opposite2}",
            "{frame}nobody could call the {aspect} {opposite}",
            "{frame}there is nothing {opposite} about the {aspect} of this {product}",
            "{frame}this {product} is anything but {opposite}",
            "{frame}the {product} is far from {opposite}, and the {aspect} is no {opposite_thing} either",
            "{frame}I was not {opposite_deed} for a moment",
            "{frame}it is neither {opposite} nor {opposite2}",
            "I would not say that the {aspect} is {same}, but only because {same2} is the better word",
            "the {product} lacks everything that made the last one {opposite}",
            "you will look in vain for a {opposite} {aspect} in this {product}",
        ),
    ),
    "contrast": (
        0.16,
        (
            "admittedly the {aspect} is {degree}{opposite}, but the {product} as a whole is {same}",
            "although the {aspect} is {opposite}, the {product} {deed} me",
            "the {product} is {degree}{same}, even though the {aspect} is {opposite}",
            "yes, the {aspect} may be {opposite}; all the same, this is a {same} {product}",
            "for all its {opposite} {aspect}, it is a {degree}{same} {product}",
            "the {aspect} {opposite_deed} me at first, yet {verdict}",
            "despite a {opposite} {aspect} and a {opposite2} {aspect2}, {verdict}",
            "what begins as a {opposite_thing} turns into a {degree}{same} {product}",
            "the {aspect} is {opposite}, granted, and still the {product} is a {thing}",
            "one can overlook neither the {opposite} {aspect} nor the {opposite2} {aspect2}, but {verdict}",
        ),
    ),
    "comparison": (
        0.10,
        (
            "where the last {product} was {opposite}, this one is {same}",
            "next to this {product}, the {opposite} {product2} I tried before is forgotten, so {same} is it",
            "unlike its {opposite} predecessor, this {product} has a {same} {aspect}",
            "the {product2} was a {opposite_thing}; this {product} is the reverse",
            "it makes every other {product} look {opposite}",
            "I had just come from a {opposite} {product2}, and this {product} could not be more different",
            "the rival has a {opposite} {aspect}, whereas this {product} is {degree}{same}",
            "set beside this, the {opposite} {aspect} of the original is hard to remember; here it is {same}",
            "this {product} is as {same} as the {product2} was {opposite}",
        ),
    ),
    "mixed": (
        0.10,
        (
            "the {aspect} is {same}, the {aspect2} {same2}, only the {aspect3} is {degree}{opposite}",
            "apart from a {opposite} {aspect}, everything is {same}: the {aspect2}, the {aspect3}",
            "{opposite} {aspect}, {same} {aspect2}, {same2} {aspect3}",
            "one {opposite} {aspect} cannot change that the {aspect2} and the {aspect3} are {degree}{same}",
            "the {aspect} is {opposite}, which matters little, because the {aspect2} is {same} and {verdict}",
        ),
    ),
    "expectation": (
        0.08,
        (
            "{critic} called it {opposite}; I found it {degree}{same}",
            "I expected a {opposite} {product} and got a {same} one",
            "{critic} promised me a {opposite_thing}, and what I got was a {degree}{same} {product}",
            "{critic} told me that the {aspect} would be {opposite}, and I was wrong to listen",
            "how {critic} can call this {product} {opposite} is beyond me",
            "I came for something {opposite} and left {deed}",
            "I do not share the view that the {aspect} is {opposite}: {verdict}",
            "{critic} and I disagree: a {opposite_thing} to them, a {thing} to me",
        ),
    ),
}
