//! What the instructions ask about: topics, each with six short sentences that are true and stand alone.
//!
//! Every sentence holds a word of its own that no other sentence of its topic has, so that an answer can be made to use
//! it or to do without it. Sentences have 4 to 8 words and begin with a word that may be written small.

/// Facts of every topic.
pub const NUM_FACTS: usize = 6;

/// Something to talk about.
#[derive(Debug, PartialEq, Eq)]
pub struct Topic {
    /// As it stands in a prompt after "about".
    pub name: &'static str,
    /// Words that name it, in lower case.
    pub words: &'static [&'static str],
    /// What can be said.
    pub facts: [Fact; NUM_FACTS],
}

/// One sentence about a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact {
    /// The word that only this sentence of the topic has, in lower case.
    pub word: &'static str,
    /// The sentence with its full stop.
    pub sentence: &'static str,
}

impl Topic {
    /// The topic of this name.
    pub fn named(name: &str) -> Option<&'static Topic> {
        TOPICS.iter().find(|topic| topic.name == name)
    }

    /// Whether a lower-case word belongs to the topic: it names it or is the word of a fact.
    pub fn knows(&self, word: &str) -> bool {
        self.words.contains(&word) || self.facts.iter().any(|fact| fact.word == word)
    }
}

const fn fact(word: &'static str, sentence: &'static str) -> Fact {
    Fact { word, sentence }
}

/// All topics. Their order is part of the numbering of prompts: new ones go to the end.
pub const TOPICS: &[Topic] = &[
    Topic {
        name: "bees",
        words: &["bees", "bee"],
        facts: [
            fact("nectar", "Bees gather nectar from flowers."),
            fact("queen", "A hive has a single queen."),
            fact("honey", "Honey feeds the colony in winter."),
            fact("dance", "Workers dance to point at food."),
            fact("pollen", "Their bodies carry pollen between plants."),
            fact("wax", "The young grow in wax cells."),
        ],
    },
    Topic {
        name: "rain",
        words: &["rain"],
        facts: [
            fact("clouds", "Rain falls from heavy clouds."),
            fact("crops", "Farmers need it for their crops."),
            fact("umbrella", "People carry an umbrella in a shower."),
            fact("rivers", "Much of it flows into rivers."),
            fact("puddles", "Streets fill with shallow puddles."),
            fact("smell", "Dry soil gives off a fresh smell."),
        ],
    },
    Topic {
        name: "bread",
        words: &["bread"],
        facts: [
            fact("flour", "Bread is made from flour and water."),
            fact("yeast", "Yeast makes the dough rise."),
            fact("oven", "A hot oven browns the crust."),
            fact("salt", "A pinch of salt adds taste."),
            fact("toast", "Old slices make good toast."),
            fact("baker", "The baker starts before sunrise."),
        ],
    },
    Topic {
        name: "the Moon",
        words: &["moon"],
        facts: [
            fact("tides", "The Moon pulls the ocean tides."),
            fact("craters", "Its surface is full of craters."),
            fact("month", "It circles our planet every month."),
            fact("sunlight", "It shines with reflected sunlight."),
            fact("air", "There is no air to breathe there."),
            fact("astronauts", "Astronauts once walked on its dust."),
        ],
    },
    Topic {
        name: "trees",
        words: &["trees", "tree"],
        facts: [
            fact("roots", "Roots drink water from the ground."),
            fact("shade", "Trees give shade on hot days."),
            fact("rings", "A trunk grows rings each year."),
            fact("oxygen", "Green leaves release oxygen."),
            fact("birds", "Many birds nest in the branches."),
            fact("timber", "Builders cut the trunks into timber."),
        ],
    },
    Topic {
        name: "rivers",
        words: &["rivers", "river"],
        facts: [
            fact("source", "A river begins at a source."),
            fact("sea", "Most of them reach the sea."),
            fact("valleys", "Moving water carves deep valleys."),
            fact("boats", "Traders move their goods on boats."),
            fact("fish", "Clean water is home to fish."),
            fact("dams", "Large dams turn flow into power."),
        ],
    },
    Topic {
        name: "cats",
        words: &["cats", "cat"],
        facts: [
            fact("whiskers", "Whiskers help them feel their way."),
            fact("naps", "Cats take long naps each day."),
            fact("mice", "Many of them hunt mice."),
            fact("claws", "Sharp claws help them climb."),
            fact("purr", "Happy cats often purr."),
            fact("kittens", "Newborn kittens cannot see yet."),
        ],
    },
    Topic {
        name: "bicycles",
        words: &["bicycles", "bicycle", "bikes", "bike"],
        facts: [
            fact("pedals", "Turning the pedals drives the chain."),
            fact("helmet", "A helmet protects the rider."),
            fact("brakes", "Good brakes stop both wheels."),
            fact("gears", "Low gears make hills easier."),
            fact("tires", "Soft tires make riding slow."),
            fact("parking", "They need little space for parking."),
        ],
    },
    Topic {
        name: "volcanoes",
        words: &["volcanoes", "volcano"],
        facts: [
            fact("lava", "Hot lava flows from the opening."),
            fact("ash", "Clouds of ash can darken skies."),
            fact("islands", "Some islands rose from eruptions."),
            fact("soil", "Old eruptions leave rich soil."),
            fact("crust", "Melted rock breaks through the crust."),
            fact("sensors", "Scientists watch them with sensors."),
        ],
    },
    Topic {
        name: "libraries",
        words: &["libraries", "library"],
        facts: [
            fact("shelves", "Books stand in order on shelves."),
            fact("quiet", "Readers enjoy a quiet room."),
            fact("card", "A card lets you borrow books."),
            fact("librarian", "A librarian helps you find things."),
            fact("students", "Many students study there."),
            fact("stories", "Children come to hear stories."),
        ],
    },
    Topic {
        name: "coffee",
        words: &["coffee"],
        facts: [
            fact("beans", "Roasted beans give the flavor."),
            fact("caffeine", "Its caffeine keeps people awake."),
            fact("milk", "Some drinkers add warm milk."),
            fact("cherries", "The seeds grow inside red cherries."),
            fact("cafes", "Friends meet in busy cafes."),
            fact("bitter", "The taste is strong and bitter."),
        ],
    },
    Topic {
        name: "the Sun",
        words: &["sun"],
        facts: [
            fact("star", "The Sun is a star."),
            fact("heat", "Its heat warms the whole Earth."),
            fact("hydrogen", "It is made mostly of hydrogen."),
            fact("planets", "All the planets travel around it."),
            fact("shadows", "Its light casts long evening shadows."),
            fact("energy", "Plants need its energy to grow."),
        ],
    },
    Topic {
        name: "penguins",
        words: &["penguins", "penguin"],
        facts: [
            fact("swim", "Penguins swim with strong flippers."),
            fact("ice", "Some of them live on ice."),
            fact("eggs", "Parents take turns warming the eggs."),
            fact("fly", "They are birds that cannot fly."),
            fact("krill", "Their meals are fish and krill."),
            fact("feathers", "Dense feathers keep out the cold."),
        ],
    },
    Topic {
        name: "chess",
        words: &["chess"],
        facts: [
            fact("king", "Each player protects the king."),
            fact("pawns", "Both sides begin with eight pawns."),
            fact("board", "The board has light and dark squares."),
            fact("bishops", "Bishops move along slanted lines."),
            fact("clock", "Tournament games use a clock."),
            fact("plans", "Good players make long plans."),
        ],
    },
    Topic {
        name: "gardens",
        words: &["gardens", "garden"],
        facts: [
            fact("weeds", "Gardeners pull the weeds by hand."),
            fact("seeds", "Small seeds sprout in spring."),
            fact("worms", "Busy worms loosen the ground."),
            fact("vegetables", "Fresh vegetables taste better."),
            fact("compost", "Kitchen scraps turn into compost."),
            fact("fence", "A fence keeps the rabbits out."),
        ],
    },
    Topic {
        name: "trains",
        words: &["trains", "train"],
        facts: [
            fact("rails", "Steel wheels roll on steel rails."),
            fact("tickets", "Passengers buy tickets before they board."),
            fact("stations", "They stop at many stations."),
            fact("freight", "Long ones carry heavy freight."),
            fact("engine", "A powerful engine pulls the cars."),
            fact("tunnels", "Some tracks pass through tunnels."),
        ],
    },
    Topic {
        name: "clouds",
        words: &["clouds", "cloud"],
        facts: [
            fact("droplets", "They are made of tiny droplets."),
            fact("storms", "Dark ones often bring storms."),
            fact("wind", "The wind pushes them along."),
            fact("fog", "A low one is called fog."),
            fact("sunset", "They glow pink at sunset."),
            fact("sky", "White shapes drift across the sky."),
        ],
    },
    Topic {
        name: "elephants",
        words: &["elephants", "elephant"],
        facts: [
            fact("trunk", "A trunk can lift heavy logs."),
            fact("tusks", "Their tusks are long teeth."),
            fact("herd", "Older females lead the herd."),
            fact("memory", "Elephants have an excellent memory."),
            fact("grass", "They eat grass and bark daily."),
            fact("ears", "Large ears help them stay cool."),
        ],
    },
    Topic {
        name: "music",
        words: &["music"],
        facts: [
            fact("rhythm", "A steady rhythm makes people dance."),
            fact("melody", "A simple melody is easy to remember."),
            fact("notes", "Composers write notes on paper."),
            fact("guitar", "A guitar usually has six strings."),
            fact("concerts", "Crowds gather at summer concerts."),
            fact("practice", "Learning an instrument takes practice."),
        ],
    },
    Topic {
        name: "soccer",
        words: &["soccer", "football"],
        facts: [
            fact("ball", "Players kick the ball with skill."),
            fact("goal", "Each goal counts one point."),
            fact("referee", "A referee watches for fouls."),
            fact("gloves", "Keepers wear thick gloves."),
            fact("teams", "Two teams share the field."),
            fact("fans", "Loud fans fill the stadium."),
        ],
    },
    Topic {
        name: "tea",
        words: &["tea"],
        facts: [
            fact("leaves", "Tea comes from dried leaves."),
            fact("kettle", "A kettle brings water to a boil."),
            fact("cup", "Many people drink a cup daily."),
            fact("sugar", "Some like it with sugar."),
            fact("lemon", "A slice of lemon adds freshness."),
            fact("harvest", "Workers do the harvest by hand."),
        ],
    },
    Topic {
        name: "winter",
        words: &["winter"],
        facts: [
            fact("snow", "White snow covers the fields."),
            fact("nights", "The nights are long and dark."),
            fact("coat", "People wear a thick coat."),
            fact("lakes", "Shallow lakes may freeze over."),
            fact("sleep", "Some animals sleep until spring."),
            fact("fire", "Families gather around the fire."),
        ],
    },
    Topic {
        name: "robots",
        words: &["robots", "robot"],
        facts: [
            fact("factories", "Robots build cars in factories."),
            fact("sensors", "They notice obstacles with sensors."),
            fact("code", "Engineers write the code they follow."),
            fact("batteries", "Small ones run on batteries."),
            fact("arms", "Metal arms repeat the same motion."),
            fact("floors", "Some of them clean floors."),
        ],
    },
    Topic {
        name: "whales",
        words: &["whales", "whale"],
        facts: [
            fact("lungs", "Whales breathe air with lungs."),
            fact("songs", "Males sing long songs."),
            fact("calves", "Mothers feed milk to their calves."),
            fact("blubber", "Thick blubber keeps them warm."),
            fact("ocean", "They cross the ocean every year."),
            fact("tail", "A strong tail pushes them forward."),
        ],
    },
    Topic {
        name: "bridges",
        words: &["bridges", "bridge"],
        facts: [
            fact("river", "Bridges let roads cross a river."),
            fact("steel", "Strong ones are built from steel."),
            fact("cables", "Thick cables hold the deck."),
            fact("arches", "Stone arches carry great weight."),
            fact("toll", "Some drivers must pay a toll."),
            fact("engineers", "Careful engineers plan every beam."),
        ],
    },
    Topic {
        name: "the desert",
        words: &["desert", "deserts"],
        facts: [
            fact("sand", "Dunes of sand move slowly."),
            fact("cactus", "A cactus stores water inside."),
            fact("camels", "Camels carry loads for days."),
            fact("oasis", "Palm trees surround an oasis."),
            fact("cold", "The nights there are cold."),
            fact("lizards", "Small lizards hide under rocks."),
        ],
    },
    Topic {
        name: "cheese",
        words: &["cheese"],
        facts: [
            fact("milk", "Cheese is made from milk."),
            fact("mold", "Blue kinds contain harmless mold."),
            fact("cellar", "Wheels age in a cool cellar."),
            fact("goats", "Soft kinds often come from goats."),
            fact("pizza", "Melted slices belong on pizza."),
            fact("smell", "Ripe ones have a strong smell."),
        ],
    },
    Topic {
        name: "dogs",
        words: &["dogs", "dog"],
        facts: [
            fact("walks", "Dogs need daily walks."),
            fact("noses", "Keen noses follow faint trails."),
            fact("leash", "A leash keeps them close."),
            fact("puppies", "Curious puppies chew on shoes."),
            fact("sheep", "Some breeds guard sheep."),
            fact("bark", "They bark at strangers."),
        ],
    },
    Topic {
        name: "the ocean",
        words: &["ocean", "oceans", "sea"],
        facts: [
            fact("waves", "Strong winds raise tall waves."),
            fact("salt", "Its water is full of salt."),
            fact("coral", "Colorful fish live near coral."),
            fact("depths", "Sunlight never reaches the depths."),
            fact("ships", "Huge ships carry goods across it."),
            fact("beaches", "Families relax on sandy beaches."),
        ],
    },
    Topic {
        name: "honey",
        words: &["honey"],
        facts: [
            fact("jars", "People store it in jars."),
            fact("sweet", "The taste is very sweet."),
            fact("hives", "Beekeepers collect it from hives."),
            fact("flowers", "Its color depends on the flowers."),
            fact("bread", "It is lovely on warm bread."),
            fact("throat", "A spoonful soothes a sore throat."),
        ],
    },
    Topic {
        name: "maps",
        words: &["maps", "map"],
        facts: [
            fact("roads", "Thin lines show the roads."),
            fact("north", "The top edge usually points north."),
            fact("scale", "A scale tells the real distance."),
            fact("hikers", "Lost hikers are glad of one."),
            fact("colors", "Different colors mark different countries."),
            fact("phone", "Most travelers use a phone today."),
        ],
    },
    Topic {
        name: "owls",
        words: &["owls", "owl"],
        facts: [
            fact("night", "Owls hunt in the night."),
            fact("heads", "They can turn their heads far."),
            fact("silent", "Soft feathers make flight silent."),
            fact("barns", "Some raise chicks in old barns."),
            fact("mice", "A few mice make a meal."),
            fact("eyes", "Big eyes gather faint light."),
        ],
    },
    Topic {
        name: "mountains",
        words: &["mountains", "mountain"],
        facts: [
            fact("peaks", "Snow covers the highest peaks."),
            fact("climbers", "Brave climbers carry ropes."),
            fact("goats", "Wild goats jump between rocks."),
            fact("streams", "Cold streams run down the slopes."),
            fact("air", "The air gets thin near the top."),
            fact("plates", "Colliding plates push rock upward."),
        ],
    },
    Topic {
        name: "books",
        words: &["books", "book"],
        facts: [
            fact("pages", "Most of them have printed pages."),
            fact("author", "An author may work for years."),
            fact("cover", "A bright cover draws attention."),
            fact("library", "You can borrow them from a library."),
            fact("chapters", "Long stories are split into chapters."),
            fact("imagination", "Reading feeds the imagination."),
        ],
    },
    Topic {
        name: "apples",
        words: &["apples", "apple"],
        facts: [
            fact("orchards", "Apples grow in sunny orchards."),
            fact("pie", "Sour kinds are good for pie."),
            fact("autumn", "Most of them ripen in autumn."),
            fact("core", "Small brown seeds fill the core."),
            fact("juice", "Pressed fruit becomes fresh juice."),
            fact("peel", "The peel may be red or green."),
        ],
    },
    Topic {
        name: "spiders",
        words: &["spiders", "spider"],
        facts: [
            fact("web", "Many of them spin a web."),
            fact("legs", "Spiders walk on eight legs."),
            fact("silk", "Their silk is light but strong."),
            fact("insects", "They help by catching insects."),
            fact("eggs", "A soft sac protects the eggs."),
            fact("venom", "Some kinds have dangerous venom."),
        ],
    },
    Topic {
        name: "castles",
        words: &["castles", "castle"],
        facts: [
            fact("walls", "Thick walls kept enemies out."),
            fact("moat", "A moat made attacks harder."),
            fact("towers", "Guards watched from the towers."),
            fact("knights", "Armored knights served their lord."),
            fact("feasts", "Nobles held feasts in the hall."),
            fact("tourists", "Many tourists visit the ruins."),
        ],
    },
    Topic {
        name: "potatoes",
        words: &["potatoes", "potato"],
        facts: [
            fact("soil", "Potatoes grow under the soil."),
            fact("fries", "Thin strips become crisp fries."),
            fact("soup", "They make a soup thicker."),
            fact("peel", "Cooks often peel them first."),
            fact("starch", "They contain plenty of starch."),
            fact("cellar", "A dark cellar keeps them fresh."),
        ],
    },
    Topic {
        name: "planes",
        words: &["planes", "plane", "airplanes", "airplane", "aircraft"],
        facts: [
            fact("wings", "Curved wings lift them up."),
            fact("pilots", "Trained pilots check every instrument."),
            fact("runway", "They take off from a runway."),
            fact("fuel", "Each flight burns a lot of fuel."),
            fact("seat", "Passengers fasten belts in each seat."),
            fact("turbulence", "Rough air is called turbulence."),
        ],
    },
    Topic {
        name: "schools",
        words: &["schools", "school"],
        facts: [
            fact("teachers", "Patient teachers explain hard ideas."),
            fact("homework", "Pupils finish homework in the evening."),
            fact("bell", "A bell marks each break."),
            fact("lunch", "Children eat lunch together."),
            fact("exams", "Many students worry about exams."),
            fact("sports", "The yard is used for sports."),
        ],
    },
];
