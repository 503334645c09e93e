"""Words that people use in audiences: names of columns, and yes and no in many languages.

They are compared without case, accents, spaces and punctuation. How: tasks.audience.
"""

# Most wanted rank first. Not here on purpose: names that mean e-mail consent ("newsletter",
# Shopify's "Accepts Marketing") or that date the account and not the consent.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "phone": (
        # SMS goes to mobiles: these win over the general names of the second rank.
        "mobile mobilephone mobilephonenumber mobilenumber mobileno mobilenr phonemobile cell"
        " cellphone cellphonenumber cellnumber msisdn sms smsnumber smsphone gsm gsmnumber"
        " gsmnummer handy handynummer handynr mobil mobilnummer mobilnr mobiltelefon mobiltlf"
        " mobilfunk mobilfunknummer portable telephoneportable telportable telmobile"
        " telephonemobile numeromobile movil telefonomovil numeromovil celular telefonocelular"
        " numerocelular cellulare numerocellulare telemovel mobiel mobielnummer komorka"
        " telefonkomorkowy matkapuhelin ceptelefonu cep mobilni",
        "phone phonenumber phoneno phonenr phonee164 e164 tel telno telnr telephone"
        " telephonenumber telefon telefonnummer telefonnr telefonnumber rufnummer fon telefono"
        " numerotelefono numerodetelefono numerotelephone numerodetelephone telefone"
        " numerodetelefone telefoon telefoonnummer puhelin puhelinnumero tlf telefonszam"
        " contactnumber contactphone customerphone primaryphone userphone",
    ),
    "country": (
        "countryiso countryiso2 iso2 countryalpha2 isocountry isocountrycode",
        "country countryname land pays pais paese kraj maa ulke orszag region countryregion",
        # Last, because a "country code" may as well be a calling code.
        "countrycode landcode landescode laendercode landercode landskod codepays codigopais",
    ),
    "timezone": (
        "timezone tz tzname tzid ianatimezone timezonename timezoneid zeitzone fuseauhoraire"
        " zonahoraria fusoorario fusohorario tijdzone tidszone strefaczasowa",
    ),
    # Not here: "region", which may be a continent, a sales area or a country.
    "subdivision": (
        "subdivision subdivisioncode iso31662 statecode stateprovince stateorprovince provincestate"
        " provincecode regioncode",
        "state statename usstate homestate addressstate bundesland bundesstaat",
        "province provincia provincie prefecture",
    ),
    "opt_in": (
        "smsoptin smsconsent smsmarketingoptin smsmarketingconsent acceptssms smsoptedin"
        " acceptssmsmarketing smssubscribed smspermission smseinwilligung consentsms optinsms",
        "optin optedin consent marketingoptin marketingconsent consentgiven hasconsent"
        " hasconsented permission subscribed einwilligung werbeeinwilligung zustimmung"
        " consentement consentimiento consenso consentimento toestemming samtykke zgoda",
    ),
    "opt_in_at": (
        "smsoptinat smsoptindate smsoptintime smsoptintimestamp smsconsentat smsconsentdate"
        " smsconsenttimestamp smsconsenttime",
        "optinat optindate optindatetime optintime optintimestamp optedinat optedindate consentat"
        " consentdate consentdatetime consenttime consenttimestamp consentedat consentgivenat"
        " marketingoptinat marketingoptindate marketingconsentat marketingconsentdate"
        " subscribedat subscribeddate einwilligungam einwilligungsdatum dateconsentement"
        " dateoptin fechaconsentimiento dataconsenso dataconsentimento datumtoestemming",
    ),
    "age_verified": (
        "ageverified ageverification ageconfirmed agecheck agechecked agecheckpassed isageverified"
        " verifiedage over18 over21 isover18 isover21 altersverifiziert altersnachweis"
        " altersprufung ageverifie edadverificada idadeverificada",
    ),
}

# Words by themselves; "pending" or "double opt-in" say neither and are left for a person.
YES = (
    "yes y true t 1 on x ok ✓ ✔ ja j oui si sim tak da ano evet kyllä igen はい да 是"
    " optin optedin subscribed granted given agreed accepted consented confirmed checked enabled"
)
NO = (
    "no n false f 0 off nein non não nao nee nie ne nej nei ei hayır hayir nem いいえ нет 否"
    " optout optedout unsubscribed notsubscribed neversubscribed notoptedin nooptin revoked"
    " withdrawn denied declined refused notgranted notgiven unchecked disabled"
)
