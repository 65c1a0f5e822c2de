"""Names and words that offices are made of."""

from __future__ import annotations

FIRST_NAMES = (
    *("Ada", "Bruno", "Carla", "Diego", "Elena", "Farid", "Greta", "Hugo", "Ines", "Jonas"),
    *("Katya", "Liam", "Mona", "Nils", "Olga", "Pavel", "Rosa", "Samir", "Tessa", "Ulrich"),
    *("Vera", "Wanda", "Yusuf", "Zoe", "Amir", "Bella", "Cedric", "Dora", "Emil", "Fiona"),
    *("Gustav", "Hana"),
)
LAST_NAMES = (
    *("Abbott", "Becker", "Castro", "Dietrich", "Eriksen", "Fontana", "Grant", "Hoffman"),
    *("Ivanov", "Jensen", "Keller", "Lopez", "Moreau", "Novak", "Okafor", "Petrov", "Quinn"),
    *("Rossi", "Sato", "Turner", "Ueda", "Vogel", "Weber", "Young", "Zimmer", "Alvarez"),
    *("Bianchi", "Chen", "Dubois", "Evans", "Fischer", "Gomez"),
)
CITIES = ("Lisbon", "Oslo", "Graz", "Leeds", "Porto", "Turin")
COMPANIES = ("Northwind", "Bluebird Labs", "Orchard & Co", "Granite Works", "Tidewater")
RELATIONS = (
    *("manager", "assistant", "sister", "brother", "mother", "landlord", "dentist", "roommate"),
    *("coworker",) * 7,
    *("friend",) * 9,
)
GROUPS = ("book club", "hiking", "chess")
SHOPS = ("deals@megashop.example", "offers@shoewave.example", "sale@plantbarn.example")
SUBJECTS = (
    *("Lunch on Friday?", "Minutes of the meeting", "Photos from the trip", "Question on the plan"),
    *("New coffee machine", "Parking next week", "Slides for review", "Train tickets", "Thank you"),
    *("Office keys", "Your feedback", "Printer is broken", "Holiday list", "Book recommendation"),
)
SENTENCES = (
    "Let me know what you think.",
    "See you soon.",
    "I will be back on Monday.",
    "Could you have a look?",
    "No hurry with this one.",
    "It went better than I thought.",
)
NOTE_TITLES = (
    *("Garden", "Gift ideas", "Books to read", "Recipes", "Wi-Fi at the cabin", "Meeting style"),
    *(
        "Bike service",
        "Films",
        "Packing list",
        "Restaurant tips",
        "Winter tyres",
        "Language course",
    ),
)
NOTE_TAGS = ("home", "work", "ideas", "travel")
TRANSFER_NOTES = (
    "lunch",
    "taxi",
    "concert",
    "groceries",
    "gift",
    "rent share",
    "coffee",
    "tickets",
)
ARTISTS = ("The Lanterns", "Mira Vale", "Copper Coast", "Juno Park", "Old Harbour", "Sleepy Giants")
GENRES = ("jazz", "rock", "folk", "electronic")
TITLE_STARTS = ("Blue", "Silent", "Golden", "Broken", "Distant", "Paper", "Electric", "Hidden")
TITLE_ENDS = ("River", "Morning", "Letters", "Highway", "Garden", "Mirror", "Signals", "Winter")
FOLDERS = ("/documents", "/documents/work", "/pictures", "/reports", "/downloads", "/projects")
EVENT_TITLES = (
    *("Team meeting", "Budget review", "Coffee with a client", "Yoga", "Design session"),
    *("Phone call", "Interview", "Workshop", "Piano lesson", "Planning"),
)
PLACES = ("Room 1", "Room 2", "Cafe Luna", "Online", "Main hall")
TODO_LISTS = ("home", "work", "errands")
TODO_TITLES = (
    *("water the plants", "call the bank", "renew passport", "clean the desk", "buy stamps"),
    *("book flights", "write the summary", "fix the lamp", "return the parcel", "order toner"),
    *("check the invoices", "update the slides", "sort the photos", "wash the car", "buy a gift"),
    *("read the contract", "plan the trip", "back up the laptop"),
)
