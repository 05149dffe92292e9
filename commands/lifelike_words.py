"""Names, places, streets and terms from which lifelike records are made. No real persons."""

from __future__ import annotations

WOMEN = (
    "Zoë", "Anaïs", "Chloë", "Daniëlle", "Eva", "Fenna", "Gülşen", "Hélène", "Işıl", "Jikke",
    "Loïs", "Małgorzata", "Marijke", "Noëlle", "Renée", "Samira", "Sjoukje", "Şeyma", "Truus",
    "Yaël",
)  # fmt: skip
MEN = (
    "Özgür", "Björn", "Łukasz", "André", "Benoît", "Cees", "Daniël", "Emre", "François", "Gijs",
    "Ismaël", "Jörgen", "Joaquín", "Michaël", "Nassim", "Paweł", "Raphaël", "Sjoerd", "Tjeerd",
    "Wiebe",
)  # fmt: skip
CHILDREN = tuple(name for pair in zip(WOMEN, MEN, strict=True) for name in pair)
SURNAMES = (
    ("", "Jansen"), ("de", "Vries"), ("van den", "Berg"), ("", "Çelik"), ("", "Yıldız"),
    ("", "Nowak"), ("ter", "Horst"), ("", "Postma"), ("", "Núñez"), ("", "El Amrani"),
    ("", "Müller"), ("van 't", "Hof"), ("", "Hoekstra"), ("in 't", "Veld"), ("", "Öztürk"),
    ("", "Wójcik"), ("", "Crèvecoeur"), ("van der", "Meer"), ("", "Groeneveld"), ("", "Noël"),
)  # fmt: skip
BIRTHPLACES = (
    ("Willemstad", "Curaçao"), ("Łódź", "Polen"), ("İzmir", "Turkije"), ("Tétouan", "Marokko"),
    ("Paramaribo", "Suriname"), ("Hasselt", "België"), ("Homs", "Syrië"), ("Köln", "Duitsland"),
    ("Leeuwarden", "Nederland"), ("Tilburg", "Nederland"), ("Deventer", "Nederland"),
    ("'s-Gravenhage", "Nederland"), ("Harlingen", "Nederland"), ("Venlo", "Nederland"),
)  # fmt: skip
PLACES = (  # place, municipality, first and last number of its postcodes
    ("Sneek", "Súdwest-Fryslân", 8601, 8608), ("Bolsward", "Súdwest-Fryslân", 8701, 8702),
    ("'s-Hertogenbosch", "'s-Hertogenbosch", 5211, 5237),
    ("Rosmalen", "'s-Hertogenbosch", 5241, 5248),
    ("Franeker", "Waadhoeke", 8801, 8802), ("Burgum", "Tytsjerksteradiel", 9250, 9251),
    ("Hoorn", "Hoorn", 1621, 1628), ("Bergen op Zoom", "Bergen op Zoom", 4611, 4625),
    ("Middelharnis", "Goeree-Overflakkee", 3241, 3241), ("Nijverdal", "Hellendoorn", 7441, 7443),
)  # fmt: skip
STREETS = (
    "Beukenlaan", "Burgemeester Röellstraat", "Curaçaostraat", "Dorpsstraat", "Eikenhof",
    "Frisiastrjitte", "Groene Zoom", "Hoge Wâl", "Kerkpad", "Lindelaan", "Meidoornstraat",
    "Molenweg", "Oude Haven", "Prinses Irenestraat", "Oranjesingel", "Singel", "Stationsweg",
    "Tolhûswei", "Vogelwikke", "Zuiderdiep",
)  # fmt: skip
POSTCODE_LETTERS = "ABCEGHJKLMNPRTVWXZ"
SUFFIXES = ("", "", "", "A", "bis", "2hoog")

SCHEMES = (
    "Kledingbonnen", "Schoolspullen", "Sport en spel", "Muziek en cultuur", "Zwemles",
    "Fietsregeling",
)  # fmt: skip
SHOPS = (
    ("Kinderkleding De Wollen Das", ("winterjas", "regenlaarzen", "pyjama", "schoenen maat 34")),
    ("Sportzaak Het Startschot", ("voetbalschoenen", "zwembroek", "gymtas", "judopak")),
    ("Boekhandel Het Leesbeest", ("schoolagenda", "atlas", "rekenmachine", "prentenboek")),
    ("Rijwielhandel De Ketting", ("kinderfiets 24 inch", "fietslamp", "slot", "fietshelm")),
    ("Zwembad De Blauwe Golf", ("zwemles A, tien lessen", "zwemles B, tien lessen", "badje")),
    ("Muziekschool Crescendo", ("huur blokfluit", "cursus slagwerk", "lesboek viool")),
    ("Warenhuis 't Hoekje", ("rugzak", "etui", "drinkfles en broodtrommel", "tekendoos")),
)
GROUNDS = (
    "Het inkomen van het huishouden ligt onder 120 % van de bijstandsnorm.",
    "Het huishouden neemt deel aan de schuldhulpverlening van de gemeente.",
    "De aanvrager ontvangt algemene bijstand; het recht is ambtshalve vastgesteld.",
    "Het inkomen is getoetst aan de geüpdatete inkomensgrens van de verordening.",
)
DESKS = ("Team Inkomen", "Wijkteam Noord", "Wijkteam Zuid", "Team Jeugd en Gezin", "Balie Stadhuis")

PROVISIONS = (  # code, name, field of result, unit of the extent, least and most of it
    ("01A01", "Huishoudelijke hulp", "een schoon en leefbaar huis", "minutenPerWeek", 90, 240),
    ("02A03", "Individuele begeleiding", "regie over het eigen leven", "minutenPerWeek", 60, 300),
    ("05A02", "Handbewogen rolstoel", "zich verplaatsen in en om het huis", "stuks", 1, 1),
    ("05A05", "Elektrische rolstoel", "zich verplaatsen in en om het huis", "stuks", 1, 1),
    ("06A01", "Traplift", "de woonruimten normaal kunnen gebruiken", "stuks", 1, 1),
    ("07A03", "Dagbesteding", "een zinvolle invulling van de dag", "dagdelenPerWeek", 1, 8),
)  # fmt: skip
PROVIDERS = (
    "Thuiszorg De Lindeboom", "Hulpmiddelen Ruim Baan B.V.", "Stichting Zorg aan Zee",
    "Coöperatie Noaberhulp", "Zorggroep 't Anker", "Fryske Soarch Mienskip",
)  # fmt: skip
LIMITATIONS = (
    "beperkte loopafstand", "verminderde kracht in de armen", "snel vermoeid", "slechtziend",
    "evenwichtsproblemen", "moeite met plannen", "pijn bij bukken en tillen", "beginnende dementie",
)  # fmt: skip
OBSERVATIONS = (
    "De voorziening werkt naar tevredenheid; de cliënt heeft geen vragen.",
    "De mantelzorger is overbelast; respijtzorg is besproken en een folder is achtergelaten.",
    "De remmen van het hulpmiddel zijn nagesteld en de zithoogte is opnieuw ingemeten.",
    "De hulp kwam twee weken niet; met de aanbieder is vervanging afgesproken.",
    "Zelfstandig koken lukt weer deels. De inzet kan na de zomer worden geëvalueerd.",
    "De situatie is achteruitgegaan na een ziekenhuisopname; een herindicatie is aangevraagd.",
    "Niemand bereikt; een nieuwe afspraak is per brief bevestigd.",
)
ACTIONS = ("geen", "terugbellen", "aanbieder informeren", "herindicatie", "huisarts raadplegen")
ENDINGS = ("doel bereikt", "verhuisd", "overgegaan naar de Wlz", "op eigen verzoek", "overleden")

CHANNELS = ("e-mail", "post", "app")
LANGUAGES = ("nl", "fy", "en", "pl", "tr", "pap")
THEMES = (
    "afval en milieu", "werk in uitvoering", "cultuur en cafés", "financiën", "jeugd en onderwijs",
    "bouwplannen", "verkiezingen", "ruimte voor ideeën", "sport", "zorg en welzijn",
)  # fmt: skip
SUBJECT_LINES = (
    "Nieuwe inzameldagen voor gft en oud papier", "Denk mee over de herinrichting van de markt",
    "Vraag vóór 1 juli de energietoeslag aan", "Koningsdag: route, kramen en verkeershinder",
    "Zo stemt u bij de gemeenteraadsverkiezingen", "Subsidie voor groene daken en geveltuinen",
    "Openingstijden rond de feestdagen", "Drieëntwintig ideeën uit de wijk bekroond",
)  # fmt: skip
FORMS = ("website van de gemeente", "balie in het stadhuis", "papieren formulier", "inwonersapp")
