"""Notes with values about what a reader or writer changed or left out. Records hold them filled in, as text; interfaces
recognize and translate them. Notes without values stand where they arise."""

from calotype.errors import Message, recognized

IMPOSSIBLE_PRIMARIES = "its colour primaries ({space}) are impossible and left out"
SRGB_CURVE = "its samples ({space}) are converted to the curve of sRGB"
HDR_COMPRESSED = (
    "its HDR ({transfer}) is converted to {result}: white is {white} cd/m2, highlights up to {peak} are compressed as "
    "in BT.2390"
)
HDR = "its HDR ({transfer}) is converted to {result}: white is {white} cd/m2"
UNKNOWN_CODES = "its colour codes {primaries}/{transfer} are unknown and left out"
UNFIT_FAMILY = "its {family} did not fit the result, which has another shape, and are left out"
NO_TRANSPARENCY = "{format} has no transparency: laid on white"
FEWER_BITS = "{format} keeps {bits} bits only"
NO_SECOND_COMMENT = "{format} has no place for its second comment: left out"
NO_PARAMETERS = "{format} has no place for its generation parameters ({names}): left out"
NO_CAPTIONS = "{format} has no place for some of its IPTC captions ({names}): left out"
NO_PLACE_IN_BMP = "BMP has no place for {names}: left out"
DAMAGED_EXIF = "its EXIF is damaged and left out ({fault})"
OF_16_BITS = "of its 16 bits in {mode} 8 are used"
DAMAGED_ENTRY = "a damaged {entry} entry is left out"
DAMAGED_ROWS = (
    "its file is damaged: about {percent} % of it was read, from the top; the rest is missing, and what was read last "
    "may be wrong"
)
TEMPLATES = (IMPOSSIBLE_PRIMARIES, SRGB_CURVE, HDR_COMPRESSED, HDR, UNKNOWN_CODES, UNFIT_FAMILY, NO_TRANSPARENCY)
TEMPLATES += (FEWER_BITS, NO_SECOND_COMMENT, NO_PARAMETERS, NO_CAPTIONS, NO_PLACE_IN_BMP, DAMAGED_EXIF, OF_16_BITS)
TEMPLATES += (DAMAGED_ENTRY, DAMAGED_ROWS)
REASONS = ("no byte order mark", "no first directory", "no entries")  # of a damaged EXIF


def as_message(note: str | Message) -> Message:
    """A note about a picture as a message, from its text."""
    if isinstance(note, Message):
        return note
    message = recognized(note, TEMPLATES)
    reasons = {name: Message.of(value) for name, value in message.values.items() if value in REASONS}
    return Message(message, **reasons)
