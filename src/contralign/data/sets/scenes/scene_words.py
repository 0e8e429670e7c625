"""The vocabulary of scenes, by what a word tells."""

import string

from contralign.data.sets.scenes.glyphs import pseudo_words

COLOURS = {
    "red": (214, 34, 34),
    "green": (30, 140, 50),
    "blue": (40, 70, 220),
    "orange": (242, 140, 16),
    "purple": (140, 40, 170),
    "teal": (0, 150, 160),
    "brown": (120, 72, 30),
    "black": (16, 16, 16),
}
"""Colours of ink, as red, green and blue of 0 to 255."""

SHAPES = ("circles", "squares", "triangles", "crosses")
COUNTS = ("two", "three", "four", "five", "six", "seven", "eight")
BAR_COUNTS = COUNTS[:3]
HEIGHTS = tuple(str(height) for height in range(1, 8))
"""Heights of bars, in units of two pixels."""

CODE_CHARACTERS = tuple(string.ascii_lowercase + string.digits)
COLUMNS = ("one", "two", "three", "four")
NUMBERS = tuple(str(number) for number in range(10, 100))
LINES = ("first", "second", "third", "last")

_PRINTED_WORDS = """
acid aunt baby back bald band bank barn bath bead beak beam bear beef bell belt bike bird boat body bolt bomb bone
book boot bowl bush cage cake calf camp cape card cart cash cave chin city clay club coal coat coin comb cook cord
cork corn crab crew crop crow cube cuff dawn deer desk dirt dish dock doll door dove drum duck dune dust echo edge
envy face farm fear film fish flag flea flax foam fold foot fork fort frog fuel gate gift girl glue goat gold golf
gown hail hair hall hand harp hawk heap heel herb hero hill hive hood hoof hook horn hose hush iron jail jazz joke
jury kelp kite knee knot lace lake lamb lamp lawn leaf lens lily limb lime lion loaf lock luck lung mall mane mask
maze meal milk mill mine mint moat mole moon moss moth mule nail neck nest newt noon nose oath oven palm park path
pear peel pine pipe plum pond pony pool port puma quiz raft rain reef rice ring road rock roof room root rope rose
ruby sage sail salt sand seal seed ship shoe silk sink skin slug snow soap sock sofa soil song soup star stem surf
swan tail tank tent tide tile toad tomb tool tour town tray tree tuna twig vase veil vest vine wall wave weed well
whip wick wind wing wolf wood wool yarn yoke zinc
"""
PRINTED_WORDS = tuple(_PRINTED_WORDS.split())
"""Words of four letters, to be printed into pictures."""

PEOPLE = pseudo_words(200, syllables=2, seed="people", vowel_first=True)
PLACES = pseudo_words(100, syllables=3, seed="places", vowel_first=True)
_MONTHS = "january february march april may june july august september october november december"
MONTHS = tuple(_MONTHS.split())
_OPINIONS = """
lovely dreadful boring clever cheap charming clumsy odd noisy calm solemn silly brave shy stale witty bleak grand
modest vague subtle gloomy jolly dull rude polite honest sly tender harsh costly useless famous forgotten ancient
modern sacred common rare loud restless lazy proud humble bitter cosy strange ordinary mysterious elegant ugly
magnificent pathetic
"""
OPINIONS = tuple(_OPINIONS.split())

ASKED_TO_DESCRIBE = (
    "describe the picture.",
    "what do you see?",
    "tell me about this picture.",
    "read out the lines of the picture.",
)
ASKED_TO_LIST = "name it."
SHOWING = ("shows", "holds", "bears", "has")

BOILERPLATE = (
    "all rights to this picture are kept by the one who took it",
    "click on the picture to see it in its full size",
    "please write to the office if you want to use it in print",
    "no part of it may be sold or lent without leave",
    "sent from the reading room on the ground floor of the library",
    "prices hold as long as stocks last and may change without notice",
    "copies on thick paper can be had from the shop at the gate",
    "one of a series that is shown all the year round",
)
"""Sentences whose first word tells all the others."""
