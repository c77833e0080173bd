"""The names of months as feeds write them."""

from __future__ import annotations

import unicodedata

_BEGINNINGS = [
    "january januar jaenner januari janvier enero gennaio janeiro",
    "february februar februari fevrier febrero febbraio fevereiro",
    "march marz maerz mrz maart mars marzo marco",
    "april avril abril aprile",
    "may mai mei mayo maggio maio",
    "june juni juin junio giugno junho",
    "july juli juillet julio luglio julho",
    "august augustus aout agosto",
    "september septembre septiembre settembre setembro",
    "october oktober octobre octubre ottobre outubro",
    "november novembre noviembre novembro",
    "december dezember decembre diciembre dicembre dezembro",
]
"""Three letters of these or more will do: English, German, Dutch, French, Spanish, Italian,
Portuguese."""

_WHOLE = """
января январь янв січня ocak stycznia styczen leden ledna tammikuu ianuarie gener sty
февраля февраль фев февр лютого subat lutego luty unor unora helmikuu februarie febrer lut
марта март мар березня mart marca marzec brezen brezna maaliskuu marts martie marcius
апреля апрель апр квітня nisan kwietnia kwiecien duben dubna huhtikuu aprilie aprilis kwi
мая май травня mayis maja maj kveten kvetna toukokuu majus maig
июня июнь июн червня haziran czerwca czerwiec cerven cervna kesakuu iunie junius juny cze
июля июль июл липня temmuz lipca lipiec cervenec cervence heinakuu iulie julius juliol lip
августа август авг серпня agustos sierpnia sierpien srpen srpna elokuu augusztus agost sie
сентября сентябрь сен сент вересня eylul wrzesnia wrzesien zari syyskuu septembrie szeptember wrz
октября октябрь окт жовтня ekim pazdziernika pazdziernik rijen rijna lokakuu octombrie paz
ноября ноябрь ноя нояб листопада kasim listopada listopad listopadu marraskuu noiembrie lis
декабря декабрь дек грудня aralik grudnia grudzien prosinec prosince joulukuu desember decembrie gru
"""
"""Only whole words of these, for their beginnings are those of other months elsewhere: Russian,
Ukrainian, Turkish, Polish, Czech, Finnish, Romanian, Hungarian, Catalan, Danish and
Norwegian. `listopad` is Polish and Czech, not Croatian."""


_MORE = """
ιανουαριου ιανουαριος ιαν يناير ינואר ינו ian oca led січ яну януари tammi
φεβρουαριου φεβρουαριος φεβ فبراير פברואר פבר sub uno лют февруари helmi
μαρτιου μαρτιος μαρ مارس מרץ bre бер maalis maret
απριλιου απριλιος απρ أبريل ابريل אפריל אפר nis dub кві април huhti
μαιου μαιος μαι مايو מאי kve тра touko
ιουνιου ιουνιος ιουν يونيو יוני יונ haz iun cvn чер юни kesa
ιουλιου ιουλιος ιουλ يوليو יולי יול tem iul cvc лип юли heina
αυγουστου αυγουστος αυγ أغسطس אוגוסט אוג agu agustus agt сер elo
σεπτεμβριου σεπτεμβριος σεπ سبتمبر ספטמבר ספט eyl zar вер септември syys
οκτωβριου οκτωβριος οκτ أكتوبر אוקטובר אוק eki rij жов октомври loka
νοεμβριου νοεμβριος νοε نوفمبر נובמבר נוב kas лис ное ноември marras
δεκεμβριου δεκεμβριος δεκ ديسمبر דצמבר דצמ ara pro des гру декември joulu
"""  # noqa: RUF001 - they are Greek and Cyrillic letters indeed
"""The same of Greek, Arabic, Hebrew, Bulgarian and Indonesian, and the short forms of Turkish,
Czech, Romanian, Finnish and Ukrainian."""


def _plain(word: str) -> str:
    """A word in lower case without accents and anything that is no letter."""
    decomposed = unicodedata.normalize(
        "NFKD", word.lower().replace("\u0131", "i").replace("\u0142", "l")
    )
    return "".join(letter for letter in decomposed if letter.isalpha())


_NUMBERS = {
    _plain(name): number
    for listed in (_WHOLE, _MORE)
    for number, names in enumerate(listed.strip().splitlines(), 1)
    for name in names.split()
}


def month_number(word: str) -> int:
    """The number of a month by its name, or three letters of it or more; 0 if it is none."""
    letters = _plain(word)
    if letters in _NUMBERS:
        return _NUMBERS[letters]
    fits = [
        number
        for number, names in enumerate(_BEGINNINGS, 1)
        if len(letters) >= 3 and any(name.startswith(letters) for name in names.split())
    ]
    return fits[0] if len(fits) == 1 else 0


def month_name(number: int) -> str:
    """The English name of a month; `?`, which is no name, where there is no such month."""
    return _BEGINNINGS[number - 1].split()[0] if 1 <= number <= 12 else "?"
