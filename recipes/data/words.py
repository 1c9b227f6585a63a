"""The words that the demonstration is written with: what customers, places and goods are called, and plain English."""
# ruff: noqa: SIM905 -- a page of words reads better without two thousand quotation marks

# Customers: any start with any end, "Kor" + "win".
NAME_STARTS = """
Al An Ar Bar Bel Ber Bran Bru Cal Car Cas Cor Dal Dan Dar Del Dor Ed El Em En Er Fal Far Fen Fin Gal Gar Ger Gil Gor
Hal Han Har Hel Hol Il Is Jan Jar Jen Jor Kal Kar Kel Kir Kor Lan Lar Len Lor Lu Mal Mar Mel Mir Mor Nal Nel Nor Ol Or
Os Pal Par Pel Per Quin Ral Ran Rol Ros Sal San Sel Sol Tal Tam Tar Ter Tor Ul Val Van Ver Vin Wal Wen Wil Yar Zan
""".split()
NAME_ENDS = """
bar bell ben bert bin by cey dall dana dell den der din do don dra drick fred ga gan gard gin go ka kin kott la lan
lard leen len ley lin lo long low man mar mer mett mey min mond mont mun na nard nell ner ney nick no nor pe per pin
ra rell ren rick rin ris ro sen ser sey shaw sin son sta tan tell ten ter tin to ton va vard vell ven ver vin wald way
well win wood
""".split()

# Places: any start with any end, "East" + "haven".
PLACE_STARTS = """
Alder Apple Arrow Ash Autumn Badger Barley Bay Beacon Bear Beaver Birch Black Blue Bramble Bridge Bright Broad Brook
Brown Butter Castle Cedar Chapel Cherry Clay Clear Cliff Clover Coal Cold Copper Crane Crow Crystal Deep Deer Dove
Dragon Dry Eagle East Elder Elm Ever Fair Falcon Fern Fire Flint Fog Forest Fox Frost Glen Gold Goose Grand Granite
Grass Gray Green Hare Hawk Hazel Heather High Honey Horse Iron Ivy Juniper King Lake Lamb Laurel Lily Lime Lion Long
Low Maple Marble Marsh Meadow Middle Mill Moon Moss New North Oak Old Orchard Otter Owl Pearl Pebble Pepper Pigeon
Pine Plum Queen Rain Raven Red Reed River Rock Rose Round Sand Shell Silver Snow South Spring Star Stone Summer Sun
Swan Sweet Thistle Thorn Tower Under Upper Walnut Water West White Wild Willow Wind Winter Wolf Wood
""".split()
PLACE_ENDS = """
bank beach borough bridge brook burn bury cliff cote creek cross dale den field ford gate grove hall ham harbor haven
head hill holm hurst land lea ley mead mere minster moor mouth pool port ridge shore side stead stoke stow thorpe ton
vale view ville wick worth yard
""".split()

# Goods: a plural noun, sometimes with one adjective before it.
GOODS = """
anchors aprons axes badges bags balls bands banners barrels baskets bats beads beans bells belts benches bikes
blankets blocks boards boats bolts books boots bottles bowls boxes bricks brooms brushes buckets bulbs buttons
cabinets cables cages cakes cameras candles cans canoes capes caps cards carpets carrots carts chains chairs chests
clamps clips clocks coats coins combs cones cooks cords corks couches covers crates cups curtains cushions desks dials
dishes dolls doors drills drums ducks engines envelopes erasers fans feathers fences files filters flags flasks
flowers flutes folders forks frames funnels gates gears glasses globes gloves grapes grills guitars hammers handles
harps hats helmets hinges hoods hooks hoses jackets jars keys kettles kites knives knobs ladders lamps lanterns
leashes lemons lenses levers lids lights lockets locks logs loops magnets maps marbles masks mats medals melons
mirrors mittens mops motors mugs nails napkins needles nets notebooks nuts oars onions ovens paddles padlocks pads
pans paints panels papers pears pedals pencils pens phones pianos pillows pins pipes pitchers planks plants plates
pliers plugs poles posters posts pots pouches pumps purses quilts racks radios rafts rails rakes razors ribbons rings
robes rods rollers ropes rugs rulers sacks saddles sails saws scales scarves scissors screens screws seats seeds
shades sheets shelves shields shirts shoes shovels signs skates skirts sleds slippers soaps socks sofas spades
speakers spoons springs stamps staples steps stools stoves straps straws strings suits swings tables tapes taps tarps
tents threads tickets tiles timers tires tongs tools torches towels toys trays trunks tubes tubs umbrellas valves
vases vests violins wagons watches wheels whistles wigs windows wires wrenches
""".split()
GOODS_ADJECTIVES = """
amber big black blue brass bronze brown cheap clean copper cotton dark fine flat glass gold gray green heavy iron
large leather light linen long metal narrow new old orange paper pink plain plastic purple red round rubber sharp
short silk silver small smooth soft square steel striped thick thin tin warm white wide wooden woolen yellow
""".split()

# Plain English, so that a tokenizer trained on these texts is of some use elsewhere too.
NOUNS = """
account act action activity actor advantage age agent air amount animal answer apartment application approach area
argument arm army art article artist aspect assistant attack attention audience author average baby back ball bank
base basis battle beginning behavior benefit bill bird birth block board body book border bottom box boy brain branch
bread brother budget building business camera cancer car card care career case cause cell center century chain chair
challenge chance change chapter character charge chart chemical chicken choice church citizen city claim class client
climate clothing code coffee collection college color combination command comment community company comparison
computer concept concern condition conference connection content contract control conversation cook copy cost country
county couple course court cover crime crisis culture cup currency customer cycle damage danger data date daughter day
deal death debate decade decision degree demand department depth description design detail development device
difference difficulty dinner direction director disease discussion distance doctor document dog dollar door doubt
dream dress drink driver drug earth economy edge education effect effort egg element email employee end energy engine
engineer environment equation error event evidence example exchange exercise experience expert explanation expression
eye face fact factor failure family farm father fear feature feeling field figure file film finger fire fish flight
floor flow flower focus food force forest form frame freedom friend fruit function future game garden gas generation
girl glass goal government grade grass group growth guess guest guide hair hall hand head health heart heat height
history hole holiday home hope horse hospital hotel hour house human idea image impact importance improvement income
increase industry information ingredient input instance institution instruction instrument insurance interest internet
interview investment island issue item job journal journey judge kind king kitchen knowledge lack lady land language
law lawyer layer leader leg length lesson letter level library light limit line link list literature location loss
love machine magazine manager manner map mark market marriage material matter meal meaning measure meat media medicine
meeting member memory message metal method middle milk mind minute mistake mode model moment money month moon morning
mother mountain mouth movement movie museum music name nation nature neck need network news night noise note number
object ocean offer office oil operation opinion opportunity option order organization origin output owner page pain
pair paper paragraph parent park part partner party path patient pattern peace people percentage performance period
phone photo phrase picture piece place plan plane planet plant player poem point police policy population position
possibility power practice president pressure price principle problem process product production professor profit
program progress project property protection purpose quality quantity question race radio rain range rate reach
reaction reader reading reality reason recipe record region relation relationship report request research resource
response responsibility rest restaurant result return review revolution rice risk river road rock role room rule
safety salt sample scene schedule school science scientist score screen sea search season second secret section
security seed sense sentence server service set shape share ship shop side sign signal sister site situation size
skill skin sky sleep society software soil solution son song sort sound source space speaker speech speed sport spring
square staff stage standard star start state statement station step stock stone story strategy street strength
structure student study style subject success sugar summer sun surface surprise system table talent task tax teacher
team technique technology temperature term test text theme theory thing thought threat time title tool topic total
touch tower town trade tradition train training travel treatment tree trend trip trouble truth type uncle
understanding union unit university use user value variety version video view village visit voice volume wall war
waste water wave way weather week weight wind window wine winter wood word work worker world writer year
""".split()
VERBS = """
accept achieve add agree allow analyze announce answer appear apply argue arrange arrive ask assume attend avoid bake
balance believe boil borrow call cancel carry cause change check claim classify clean close collect combine compare
complete connect consider contain continue convert cook copy count cover create cross damage decide define deliver
demand depend describe design destroy develop discover discuss divide edit enjoy enter exist expect explain explore
express face fail fill finish fix follow force form gather generate guess handle happen hate help hope identify
imagine improve include increase inform install introduce invent invite involve join jump kill laugh learn like limit
list listen live look love manage mark match matter measure mention miss mix move name need note notice offer open
order organize paint pass pay perform place plan plant play point practice predict prefer prepare prevent produce
protect prove provide publish pull push raise reach realize receive recommend reduce refer relate remain remember
remove repair repeat replace reply report represent require rest return reveal save search seem serve share shout show
sign solve sound start state stay stop study suggest support suppose surprise talk taste thank touch train translate
travel treat trust try turn update use visit wait walk want warn wash watch wish wonder work worry
""".split()
ADJECTIVES = """
able active actual additional alone american ancient angry available average aware bad basic beautiful best better big
black blue brave brief bright broad busy calm careful central certain cheap chemical chinese clean clear close cold
common complete complex correct creative cultural current daily dangerous dark dead deep different difficult digital
direct dry early east easy economic effective efficient electric empty english entire equal essential european exact
excellent expensive external extra fair familiar famous fast final financial fine first foreign formal former free
french fresh friendly front full general gentle german global good great green half happy hard healthy heavy helpful
high historical hot huge human important impossible independent individual industrial initial interesting internal
international kind large last late legal likely little local long lost loud low lucky main major medical mental middle
military modern moral narrow national natural necessary negative new next nice normal obvious official old online only
open opposite original other particular past perfect personal physical poor popular positive possible powerful
practical present pretty previous private professional proper proud public pure quick quiet random rare raw ready real
recent red regular relevant rich right rough round royal sad safe same scientific second secret senior separate
serious several sharp short significant similar simple single slow small smart social soft solid southern special
specific standard strange strict strong successful sudden suitable sweet tall technical terrible thick thin tiny tired
total traditional true typical unique useful usual valuable various warm weak wet white whole wide wild wise wonderful
wrong young
""".split()
SUBJECTS = "I you he she it we they someone nobody everyone".split()
FIRST_NAMES = """
Adam Alice Anna Ben Carl Clara Daniel David Emily Emma Frank George Grace Helen Henry Jack James Jane John Julia Kate
Laura Lily Lucy Maria Mark Mary Michael Nora Oliver Oscar Paul Peter Rose Sam Sarah Simon Sophie Thomas Tom William
""".split()
LINKS = """
about above across after against along among around as at before behind below between beyond by despite during for
from in inside into like near of off on onto out outside over past since through to toward under until up upon with
within without
""".split()
JOINS = """
and but or so because although though while when where if unless until after before since as then however therefore
instead also
""".split()
OPENERS = """
However, Therefore, Finally, First, Second, Next, Then, Today, Later, Sometimes, Usually, Often, Moreover, Also,
Overall, Meanwhile, Instead, Yes, No, Well, Please Here
""".split()
CONTRACTIONS = """
don't can't won't isn't doesn't didn't I'm I've I'll you're you'll it's that's there's let's we're
""".split()
FREQUENT = """
the the the the the a a an of of and and to to in in is is that it was for on are as with be at this have from or by
not but what all were when we there can your which their will would each about how up out them then many some so these
her him into has more two like could no make than been its who now did get come made may may part over such take only
one our us my me his any very much most because should where here between both being under same another every too
himself other those through just while own before must even also after
""".split()

# Schema words and their like: what tool descriptions, settings and records are made of.
KEYS = """
name type description parameters properties required string integer number boolean object array items value values key
id title email address phone date time start end amount price total currency code status result results query message
text content role user system assistant function arguments tool language source target location city country unit
units user_id order_id customer item quantity place size color weight height width length age category tags list url
path file format default enum min_length max_length from to source_language target_currency
""".split()
