"""Sentence frames of the phrasebook, English and German; `{kind}` or `{kind2}` is a slot.

German grammar stays correct because no slot needs inflection: names stand without an article after
"aus", "nach" and "auf", and amounts are in the nominative or accusative plural.
"""

FRAMES = (
    ("The meeting with {person} is on {date}.", "Das Treffen mit {person} ist am {date}."),
    ("{person} was born on {date}.", "{person} wurde am {date} geboren."),
    ("Our shop is closed from {date}.", "Unser Laden ist ab dem {date} geschlossen."),
    ("Please answer by {date} at {time}.", "Bitte antworten Sie bis zum {date} um {time} Uhr."),
    (
        "The train to {territory} leaves on {date} at {time}.",
        "Der Zug nach {territory} fährt am {date} um {time} Uhr ab.",
    ),
    (
        "On {weekday} we fly from {territory} to {territory2}.",
        "Am {weekday} fliegen wir von {territory} nach {territory2}.",
    ),
    (
        "{person} comes from {territory} and speaks {language}.",
        "{person} kommt aus {territory} und spricht {language}.",
    ),
    ("In {month} {person} travels to {territory}.", "Im {month} reist {person} nach {territory}."),
    (
        "{person} studied {language} for {duration}.",
        "{person} hat {duration} lang {language} gelernt.",
    ),
    (
        "The film lasts {duration} and starts at {time}.",
        "Der Film dauert {duration} und beginnt um {time} Uhr.",
    ),
    ("The letter from {territory} arrived {ago}.", "Der Brief aus {territory} kam {ago} an."),
    (
        "{person} returns from {territory} {ahead}.",
        "{person} kehrt {ahead} aus {territory} zurück.",
    ),
    ("The ticket to {territory} costs {money}.", "Die Fahrkarte nach {territory} kostet {money}."),
    (
        "{person} paid {money} for the book from {territory}.",
        "{person} hat {money} für das Buch aus {territory} bezahlt.",
    ),
    (
        "This coat costs {price} instead of {price2}.",
        "Dieser Mantel kostet {price} statt {price2}.",
    ),
    (
        "A kilo of coffee from {territory} costs {price}.",
        "Ein Kilo Kaffee aus {territory} kostet {price}.",
    ),
    ("The box from {territory} weighs {mass}.", "Die Kiste aus {territory} wiegt {mass}."),
    (
        "The bridge is {length} long and {length2} wide.",
        "Die Brücke ist {length} lang und {length2} breit.",
    ),
    ("The garden of {person} is {area} in size.", "Der Garten von {person} ist {area} groß."),
    (
        "The tank from {territory} holds {volume} of water.",
        "Der Tank aus {territory} fasst {volume} Wasser.",
    ),
    (
        "On {weekday} at {time} the temperature was {temperature}.",
        "Am {weekday} um {time} Uhr betrug die Temperatur {temperature}.",
    ),
    (
        "The file is {digital} in size and was sent at {time}.",
        "Die Datei ist {digital} groß und wurde um {time} Uhr gesendet.",
    ),
    ("The engine from {territory} delivers {power}.", "Der Motor aus {territory} leistet {power}."),
    ("The car from {territory} reaches {speed}.", "Das Auto aus {territory} erreicht {speed}."),
    (
        "{percent} of the visitors came from {territory}.",
        "{percent} der Besucher kamen aus {territory}.",
    ),
    (
        "Since {month} the price has risen by {percent}.",
        "Seit {month} ist der Preis um {percent} gestiegen.",
    ),
    (
        "{count} people from {territory} live in the town.",
        "In der Stadt leben {count} Menschen aus {territory}.",
    ),
    (
        "The menu is written in {language} and {language2}.",
        "Die Speisekarte ist auf {language} und {language2} geschrieben.",
    ),
    ("How do you say that in {language}, {person}?", "Wie sagt man das auf {language}, {person}?"),
    (
        "On {weekday} {person} gives lessons in {language}.",
        "Am {weekday} gibt {person} Unterricht in {language}.",
    ),
    (
        "The song from {territory} is sung in {language}.",
        "Das Lied aus {territory} wird auf {language} gesungen.",
    ),
    (
        "Every {weekday} {person} writes a letter to {territory}.",
        "Jeden {weekday} schreibt {person} einen Brief nach {territory}.",
    ),
    (
        "The exhibition is open from {weekday} to {weekday2} until {time}.",
        "Die Ausstellung ist von {weekday} bis {weekday2} bis {time} Uhr geöffnet.",
    ),
    (
        "{person} sold {count} books to {territory}.",
        "{person} hat {count} Bücher nach {territory} verkauft.",
    ),
    (
        "{person} has invited {number_word} friends from {territory}.",
        "{person} hat {number_word} Freunde aus {territory} eingeladen.",
    ),
    (
        "In {month} {person} and {person2} want to learn {language}.",
        "Im {month} wollen {person} und {person2} {language} lernen.",
    ),
    (
        "{person} lost {money} on the way to {territory}.",
        "{person} hat auf dem Weg nach {territory} {money} verloren.",
    ),
    (
        "The flight from {territory} takes {duration}.",
        "Der Flug aus {territory} dauert {duration}.",
    ),
    (
        "Is it true that {person} speaks {language} and {language2}?",
        "Stimmt es, dass {person} {language} und {language2} spricht?",
    ),
    (
        "The weather report for {territory} comes at {time}.",
        "Der Wetterbericht für {territory} kommt um {time} Uhr.",
    ),
    (
        "{territory} and {territory2} signed a treaty on {date}.",
        "{territory} und {territory2} haben am {date} einen Vertrag unterzeichnet.",
    ),
    (
        "{person} knows nothing about {territory} or {territory2}.",
        "{person} weiß nichts über {territory} oder {territory2}.",
    ),
    (
        "Our guide from {territory} explains everything in {language}.",
        "Unsere Führerin aus {territory} erklärt alles auf {language}.",
    ),
    (
        "The parcel weighs {mass} and is {length} high.",
        "Das Paket wiegt {mass} und ist {length} hoch.",
    ),
    (
        "The population of {territory} grew by {percent}.",
        "Die Bevölkerung von {territory} ist um {percent} gewachsen.",
    ),
    (
        "Please add {volume} of milk and {mass} of sugar.",
        "Bitte fügen Sie {volume} Milch und {mass} Zucker hinzu.",
    ),
    (
        "The invoice for {money} is due on {date}.",
        "Die Rechnung über {money} ist am {date} fällig.",
    ),
    (
        "In {month} the company from {territory} earned {money}.",
        "Im {month} hat die Firma aus {territory} {money} verdient.",
    ),
    (
        "Every {weekday} the machine from {territory} uses {energy}.",
        "Jeden {weekday} verbraucht die Maschine aus {territory} {energy}.",
    ),
    (
        "{person} has been waiting for a call from {territory} since {time}.",
        "{person} wartet seit {time} Uhr auf einen Anruf aus {territory}.",
    ),
    ("The result is {number} and not {number2}.", "Das Ergebnis ist {number} und nicht {number2}."),
    (
        "The ship from {territory} is {length} long.",
        "Das Schiff aus {territory} ist {length} lang.",
    ),
    (
        "{person} moved from {territory} to {territory2} {ago}.",
        "{person} ist {ago} von {territory} nach {territory2} gezogen.",
    ),
    (
        "The museum shows {count} pictures from {territory} until {date}.",
        "Das Museum zeigt {count} Bilder aus {territory} bis zum {date}.",
    ),
    (
        "The course in {language} costs {price} and lasts {duration}.",
        "Der Kurs in {language} kostet {price} und dauert {duration}.",
    ),
    (
        "{person} sent us {digital} of data from {territory}.",
        "{person} hat uns {digital} Daten aus {territory} geschickt.",
    ),
    (
        "The field on the border with {territory} measures {area}.",
        "Das Feld an der Grenze zu {territory} misst {area}.",
    ),
    (
        "Does the bus to {territory} really leave at {time}?",
        "Fährt der Bus nach {territory} wirklich um {time} Uhr ab?",
    ),
    (
        "If you travel to {territory}, you should learn {language}.",
        "Wenn Sie nach {territory} reisen, sollten Sie {language} lernen.",
    ),
    (
        "On {weekday} {person} and {person2} have {number_word} guests.",
        "Am {weekday} haben {person} und {person2} {number_word} Gäste.",
    ),
    (
        "{person} believes that {number_word} letters come from {territory}.",
        "{person} glaubt, dass {number_word} Briefe aus {territory} kommen.",
    ),
    (
        "The old map of {territory} was found {ago}.",
        "Die alte Karte von {territory} wurde {ago} gefunden.",
    ),
    (
        "The next ship to {territory} leaves {ahead}.",
        "Das nächste Schiff nach {territory} fährt {ahead} ab.",
    ),
    (
        "{person} bought {volume} of oil and {mass} of flour.",
        "{person} hat {volume} Öl und {mass} Mehl gekauft.",
    ),
)
