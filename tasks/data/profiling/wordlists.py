"""The words by which names, genders and nationalities are counted: short lists of our own, in Latin script.

Left out on purpose: names that are words or dates as well (April, Mark, Grace, Will, Rose, Jordan, Carol …), and names
that are common for both sexes.
"""

from __future__ import annotations

from functools import cache

# culture → gender → given names
GIVEN_NAMES = {
    "English": {
        "female": "Emily Emma Olivia Sarah Jessica Ashley Jennifer Elizabeth Susan Karen Nancy Betty Margaret Sandra "
        "Donna Michelle Laura Rebecca Kathleen Amy Angela Brenda Pamela Nicole Samantha Katherine Christine Debra "
        "Rachel Janet Heather Diane Julie Joyce Victoria Kelly Lauren Joan Judith Megan Cheryl Andrea Hannah Martha "
        "Jacqueline Frances Ann Anne Alice Jean Kathryn Abigail Sophia Chloe Lucy Charlotte Molly Beth Wendy Jill "
        "Tina Lisa Mary Linda Barbara Patricia Deborah Stephanie Carolyn Helen Amanda Melissa Cynthia Julia Marie "
        "Natalie Gina Jenny Kate Jane Sally Lily Mandy Tracy Sharon Ella Mia",
        "male": "James John Robert Michael William David Richard Joseph Thomas Charles Christopher Daniel Matthew "
        "Anthony Steven Paul Andrew Joshua Kenneth Kevin Brian George Edward Ronald Timothy Jason Jeffrey Ryan Jacob "
        "Gary Nicholas Eric Jonathan Stephen Larry Justin Scott Brandon Benjamin Samuel Gregory Patrick Alexander "
        "Jack Dennis Jerry Tyler Aaron Henry Douglas Peter Adam Nathan Zachary Walter Kyle Harold Carl Jeremy Keith "
        "Roger Ethan Oliver Harry Liam Noah Josh Tom Tim Jim Bob Bill Joe Mike Steve Greg Dave Ben Dan Jake Tommy "
        "Jimmy Billy Bobby Johnny Ted Fred Frank Luke Simon Hugh",
    },
    "Spanish and Portuguese": {
        "female": "María Maria Carmen Ana Lucía Lucia Isabel Juana Elena Rosa Pilar Dolores Marta Paula Sofía Sofia "
        "Valentina Camila Gabriela Daniela Mariana Fernanda Beatriz Inês Catarina Joana Teresa Guadalupe Ximena",
        "male": "José Jose Juan Carlos Luis Miguel Pedro Javier Alejandro Diego Fernando Pablo Sergio Jorge Alberto "
        "Ricardo Eduardo Rafael Manuel Raúl Raul João Joao Paulo Tiago Rui Duarte Thiago Mateo Santiago Enrique",
    },
    "French": {
        "female": "Camille Chloé Léa Manon Inès Amélie Élodie Céline Sylvie Isabelle Nathalie Véronique Aurélie "
        "Mathilde Margaux Juliette Geneviève Brigitte Monique Françoise",
        "male": "Pierre Jacques Michel François Philippe Laurent Thierry Olivier Guillaume Antoine Julien Mathieu "
        "Étienne Benoît Yves Gérard Marcel Thibault Bastien Luc",
    },
    "German and Nordic": {
        "female": "Anna Lena Katharina Sabine Ursula Monika Petra Gisela Ingrid Heike Birgit Anneliese Greta Astrid "
        "Freja Sigrid Karin Kristina Annika Maja Linnea",
        "male": "Hans Klaus Jürgen Wolfgang Stefan Matthias Uwe Dieter Heinz Günter Helmut Lukas Jonas Felix Lars Sven "
        "Bjørn Erik Anders Nils Magnus Henrik Mikkel Johan Friedrich",
    },
    "Italian": {
        "female": "Giulia Chiara Francesca Federica Alessandra Silvia Giovanna Paola Antonella Martina Bianca Ilaria "
        "Giorgia Caterina",
        "male": "Giuseppe Giovanni Francesco Alessandro Marco Matteo Lorenzo Andrea Luca Stefano Paolo Roberto Antonio "
        "Davide Riccardo Gianluca Enzo",
    },
    "Slavic": {
        "female": "Olga Tatiana Natalia Natasha Svetlana Irina Ekaterina Anastasia Oksana Agnieszka Małgorzata "
        "Katarzyna Zofia Jana Milena Jelena Ivana Ludmila Marta Daria Yulia Galina",
        "male": "Ivan Dmitri Dmitry Sergei Sergey Vladimir Mikhail Alexei Nikolai Igor Oleg Boris Pavel Andrei Piotr "
        "Krzysztof Tomasz Wojciech Milan Dragan Jan Marek Stanislav Bogdan Yuri",
    },
    "Arabic, Turkish and Persian": {
        "female": "Fatima Aisha Khadija Maryam Zainab Layla Leila Noor Amina Hana Yasmin Samira Salma Rania Ayşe Elif "
        "Zeynep Emine Shirin Parisa Nasrin Soraya",
        "male": "Mohammed Muhammad Mohamed Ahmed Ali Omar Hassan Hussein Ibrahim Yusuf Khalid Mustafa Abdullah Tariq "
        "Karim Samir Mehmet Emre Murat Reza Amir Farhad Bilal",
    },
    "South Asian": {
        "female": "Priya Ananya Aishwarya Deepika Kavita Sunita Lakshmi Pooja Neha Divya Shreya Meera Radha Anjali "
        "Sita Nisha Rekha Swati",
        "male": "Arjun Rahul Amit Raj Vijay Sanjay Rajesh Ravi Suresh Ramesh Anil Vikram Rohan Aditya Krishna Ganesh "
        "Ashok Deepak Manoj Harish",
    },
    "East and Southeast Asian": {
        "female": "Mei Xiu Ling Yuki Sakura Haruka Yoko Keiko Aiko Naomi Minji Soojin Eunji Hyejin Linh Huong Thuy "
        "Siti Dewi Putri Malai",
        "male": "Wei Jun Hiroshi Takashi Kenji Haruto Satoshi Yuto Daisuke Minho Jinwoo Sungmin Hyun Minh Tuan Budi "
        "Agus Bambang Somchai Kenta",
    },
    "African": {
        "female": "Amara Chiamaka Ngozi Adaeze Folake Yetunde Abena Akua Ama Wanjiru Achieng Thandiwe Nomvula Zanele "
        "Lerato Makena Nia",
        "male": "Chukwuemeka Emeka Chidi Oluwaseun Tunde Babatunde Kwame Kofi Kwabena Kamau Otieno Sipho Thabo "
        "Mandla Tendai Jabari Sekou Mamadou",
    },
}
GENDERED_WORDS = {
    "female": "she her hers herself woman women girl girls mother mothers daughter daughters sister sisters wife wives "
    "aunt aunts niece nieces grandmother lady ladies mrs ms mom mum queen princess",
    "male": "he him his himself man men boy boys father fathers son sons brother brothers husband husbands uncle "
    "uncles nephew nephews grandfather gentleman gentlemen mr dad king prince",
}
# As adjectives, and as people where English has a word for them. "Korean" stands for both states, "Congolese" too.
NATIONALITIES = {
    "Afghan": "Afghan Afghans", "Albanian": "Albanian Albanians", "Algerian": "Algerian Algerians",
    "American": "American Americans", "Angolan": "Angolan Angolans", "Argentine": "Argentine Argentinian Argentinians",
    "Armenian": "Armenian Armenians", "Australian": "Australian Australians", "Austrian": "Austrian Austrians",
    "Azerbaijani": "Azerbaijani Azerbaijanis", "Bangladeshi": "Bangladeshi Bangladeshis",
    "Belarusian": "Belarusian Belarusians", "Belgian": "Belgian Belgians", "Bolivian": "Bolivian Bolivians",
    "Bosnian": "Bosnian Bosnians", "Brazilian": "Brazilian Brazilians",
    "British": "British Briton Britons Englishman Englishwoman Scottish Welsh", "Bulgarian": "Bulgarian Bulgarians",
    "Burmese": "Burmese", "Cambodian": "Cambodian Cambodians", "Cameroonian": "Cameroonian Cameroonians",
    "Canadian": "Canadian Canadians", "Chilean": "Chilean Chileans", "Chinese": "Chinese",
    "Colombian": "Colombian Colombians", "Congolese": "Congolese", "Costa Rican": "Rican Ricans",
    "Croatian": "Croatian Croatians Croat Croats", "Cuban": "Cuban Cubans", "Cypriot": "Cypriot Cypriots",
    "Czech": "Czech Czechs", "Danish": "Danish Dane Danes", "Dutch": "Dutch Dutchman Dutchwoman",
    "Ecuadorian": "Ecuadorian Ecuadorians", "Egyptian": "Egyptian Egyptians", "Emirati": "Emirati Emiratis",
    "Eritrean": "Eritrean Eritreans", "Estonian": "Estonian Estonians", "Ethiopian": "Ethiopian Ethiopians",
    "Filipino": "Filipino Filipina Filipinos Filipinas", "Finnish": "Finnish Finn Finns",
    "French": "French Frenchman Frenchwoman", "Georgian": "Georgian Georgians", "German": "German Germans",
    "Ghanaian": "Ghanaian Ghanaians", "Greek": "Greek Greeks", "Guatemalan": "Guatemalan Guatemalans",
    "Haitian": "Haitian Haitians", "Honduran": "Honduran Hondurans", "Hungarian": "Hungarian Hungarians",
    "Icelandic": "Icelandic Icelander Icelanders", "Indian": "Indian Indians", "Indonesian": "Indonesian Indonesians",
    "Iranian": "Iranian Iranians", "Iraqi": "Iraqi Iraqis", "Irish": "Irish Irishman Irishwoman",
    "Israeli": "Israeli Israelis", "Italian": "Italian Italians", "Ivorian": "Ivorian Ivorians",
    "Jamaican": "Jamaican Jamaicans", "Japanese": "Japanese", "Jordanian": "Jordanian Jordanians",
    "Kazakh": "Kazakh Kazakhs", "Kenyan": "Kenyan Kenyans", "Korean": "Korean Koreans", "Kuwaiti": "Kuwaiti Kuwaitis",
    "Latvian": "Latvian Latvians", "Lebanese": "Lebanese", "Libyan": "Libyan Libyans",
    "Lithuanian": "Lithuanian Lithuanians", "Macedonian": "Macedonian Macedonians", "Malaysian": "Malaysian Malaysians",
    "Maltese": "Maltese", "Mexican": "Mexican Mexicans", "Moldovan": "Moldovan Moldovans",
    "Mongolian": "Mongolian Mongolians", "Moroccan": "Moroccan Moroccans", "Nepalese": "Nepalese Nepali Nepalis",
    "New Zealander": "Zealander Zealanders", "Nicaraguan": "Nicaraguan Nicaraguans", "Nigerian": "Nigerian Nigerians",
    "Norwegian": "Norwegian Norwegians", "Pakistani": "Pakistani Pakistanis", "Palestinian": "Palestinian Palestinians",
    "Panamanian": "Panamanian Panamanians", "Paraguayan": "Paraguayan Paraguayans", "Peruvian": "Peruvian Peruvians",
    "Polish": "Polish Pole Poles", "Portuguese": "Portuguese", "Qatari": "Qatari Qataris",
    "Romanian": "Romanian Romanians", "Russian": "Russian Russians", "Rwandan": "Rwandan Rwandans",
    "Salvadoran": "Salvadoran Salvadorans", "Saudi": "Saudi Saudis", "Senegalese": "Senegalese",
    "Serbian": "Serbian Serbians Serb Serbs", "Singaporean": "Singaporean Singaporeans",
    "Slovak": "Slovak Slovaks Slovakian", "Slovenian": "Slovenian Slovenians", "Somali": "Somali Somalis",
    "Spanish": "Spanish Spaniard Spaniards", "Sri Lankan": "Lankan Lankans", "Sudanese": "Sudanese",
    "Swedish": "Swedish Swede Swedes", "Swiss": "Swiss", "Syrian": "Syrian Syrians", "Taiwanese": "Taiwanese",
    "Tanzanian": "Tanzanian Tanzanians", "Thai": "Thai Thais", "Tunisian": "Tunisian Tunisians",
    "Turkish": "Turkish Turk Turks", "Ugandan": "Ugandan Ugandans", "Ukrainian": "Ukrainian Ukrainians",
    "Uruguayan": "Uruguayan Uruguayans", "Uzbek": "Uzbek Uzbeks", "Venezuelan": "Venezuelan Venezuelans",
    "Vietnamese": "Vietnamese", "Yemeni": "Yemeni Yemenis", "Zambian": "Zambian Zambians",
    "Zimbabwean": "Zimbabwean Zimbabweans",
}  # fmt: skip


@cache
def lexicon() -> dict[bytes, tuple[tuple[str, str], ...]]:
    """Word in UTF-8 → what it speaks for, as pairs of a topic and a value."""
    found: dict[bytes, list[tuple[str, str]]] = {}

    def learn(words: str, *meanings: tuple[str, str]) -> None:
        for word in words.split():
            known = found.setdefault(word.encode(), [])
            known.extend(meaning for meaning in meanings if meaning not in known)

    for culture, genders in GIVEN_NAMES.items():
        for gender, names in genders.items():
            for name in names.split():
                learn(name, ("name", name), ("named", gender), ("culture", culture))
    for gender, words in GENDERED_WORDS.items():
        learn(f"{words} {words.title()}", ("word", gender))
    for nationality, words in NATIONALITIES.items():
        learn(words, ("nationality", nationality))
    return {word: tuple(meanings) for word, meanings in found.items() if not _ambiguous(meanings)}


def _ambiguous(meanings: list[tuple[str, str]]) -> bool:
    """Whether a name is a woman's in one culture and a man's in another, as Andrea is."""
    return len({value for topic, value in meanings if topic == "named"}) > 1
