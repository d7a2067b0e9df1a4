//! V-IRL: geometry and rails against numbers from Python, and what every synthetic route keeps to.

use std::collections::HashSet;
use std::sync::Arc;

use rl_core::random::RandomKey;
use rl_envs::virl::city::{SIDE, SPACING_M};
use rl_envs::virl::config::FolderConfig;
use rl_envs::virl::rail::{CLEARANCE_M, NO_LANDMARK};
use rl_envs::virl::route_set::{PANORAMA_FILE, ROUTES_FILE, read_routes, write_routes};
use rl_envs::virl::synthetic::{LANDMARK_SHARE, Synthetic};
use rl_envs::virl::{
    Action, ActionSpace, City, Compass, Geocode, PanoramaMap, Rail, Relation, Route, RouteOrder, RouteSet, RouteSource,
    Segment, SyntheticConfig, Turn, Virl, VirlConfig,
};
use rl_envs::{Environment, Error};
use serde_json::{Value, json};

/// Metres by which our distance in doubles may miss the one in 50 digits, and its relative part.
const DISTANCE_TOLERANCE: f64 = 1e-7;
/// Degrees. Over a few metres the last bit of a coordinate is worth a few of them.
const BEARING_TOLERANCE: f64 = 1e-6;
/// Degrees of latitude or longitude: a tenth of a millimetre.
const PLACE_TOLERANCE: f64 = 1e-9;

fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/virl.json")).unwrap()
}

fn place(value: &Value) -> Geocode {
    serde_json::from_value(value.clone()).unwrap()
}

fn synthetic(city: u64) -> SyntheticConfig {
    SyntheticConfig { city, ..SyntheticConfig::TRAINING }
}

#[test]
fn distances_and_bearings_match_python() {
    let golden = golden();
    let cases = golden["geodesy"].as_array().unwrap();
    assert_eq!(cases.len(), 67);
    for case in cases {
        let (from, to) = (place(&case["from"]), place(&case["to"]));
        let due = case["distance"].as_f64().unwrap();
        let found = from.distance(to);
        assert!((found - due).abs() <= DISTANCE_TOLERANCE * (1.0 + due), "{case}: {found}");
        let difference = (from.bearing(to) - case["bearing"].as_f64().unwrap()).rem_euclid(360.0);
        assert!(difference.min(360.0 - difference) <= BEARING_TOLERANCE, "{case}: {}", from.bearing(to));
    }
    // By hand: one degree of a great circle is R pi / 180 = 111195.0802 m.
    let (origin, east) = (Geocode::new(0.0, 0.0).unwrap(), Geocode::new(0.0, 1.0).unwrap());
    assert!((origin.distance(east) - 111_195.080_2).abs() < 1e-4);
    assert_eq!(east.bearing(origin), 270.0);
}

#[test]
fn words_match_python() {
    let golden = golden();
    for case in golden["compass"].as_array().unwrap() {
        assert_eq!(Compass::nearest(case["heading"].as_f64().unwrap()).label(), case["compass"], "{case}");
    }
    for case in golden["relations"].as_array().unwrap() {
        let [heading, bearing] = ["heading", "bearing"].map(|key| case[key].as_f64().unwrap());
        assert_eq!(Relation::nearest(heading, bearing).label(), case["words"], "{case}");
    }
    for case in golden["turns"].as_array().unwrap() {
        let [from, to] = ["from", "to"].map(|key| case[key].as_f64().unwrap());
        assert_eq!(Turn::between(from, to, false).label(), case["wrapped"], "{case}");
        assert_eq!(Turn::between(from, to, true).label(), case["plain"], "{case}");
    }
    assert_eq!(golden["compass"].as_array().unwrap().len(), 720);
    assert_eq!(golden["turns"].as_array().unwrap().len(), 300);
}

/// Reads the routes that Python wrote from a folder.
fn golden_routes() -> Vec<Route> {
    let golden = golden();
    let records: Vec<&Value> = golden["rails"].as_array().unwrap().iter().map(|case| &case["record"]).collect();
    let folder = Folder::new("golden");
    std::fs::write(folder.0.join(ROUTES_FILE), json!([records, records.len()]).to_string()).unwrap();
    read_routes(&folder.0.join(ROUTES_FILE)).unwrap()
}

#[test]
fn rails_match_python() {
    let golden = golden();
    let mut compared = 0;
    for (case, route) in golden["rails"].as_array().unwrap().iter().zip(golden_routes()) {
        let places: Vec<(Geocode, String)> =
            case["panoramas"].as_array().unwrap().iter().map(|value| (place(value), String::new())).collect();
        let map = PanoramaMap::new(places);
        for expected in case["cases"].as_array().unwrap() {
            let name = expected["name"].as_str().unwrap();
            let config = VirlConfig {
                drop_rate: 0.0,
                relocation: matches!(name, "identity" | "map"),
                legacy_nowrap: name == "nowrap",
                legacy_short_leg: name == "stay",
                legacy_double_waypoint: name == "double",
                ..VirlConfig::default()
            };
            let rail = Rail::build(&route, &config, (name == "map").then_some(&map), RandomKey::new(0, "test"));
            let instructions: Vec<&str> =
                (1..=rail.num_instructions()).map(|number| rail.instruction(number)).collect();
            assert_eq!(json!(instructions), expected["instructions"], "{name}");
            let points = expected["points"].as_array().unwrap();
            assert_eq!(rail.points().len(), points.len(), "{name}");
            for (number, (found, due)) in rail.points().iter().zip(points).enumerate() {
                let at = place(&due["geocode"]);
                assert!((found.geocode.latitude() - at.latitude()).abs() < PLACE_TOLERANCE, "{name} {number}");
                assert!((found.geocode.longitude() - at.longitude()).abs() < PLACE_TOLERANCE, "{name} {number}");
                assert_eq!(found.heading, due["heading"].as_f64().unwrap(), "{name} {number}");
                assert_eq!(found.action(ActionSpace::Absolute).label(), due["absolute"], "{name} {number}");
                assert_eq!(found.action(ActionSpace::Relative).label(), due["relative"], "{name} {number}");
                assert_eq!(rail.observation(found), due["observation"], "{name} {number}");
                assert_eq!(found.instruction_idx as u64, due["instruction_idx"], "{name} {number}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 301);
}

/// The numbered list, and the case that the published difference of headings gets wrong.
#[test]
fn instructions_are_numbered_and_350_to_10_degrees_is_slightly_right() {
    let route = &golden_routes()[1];
    let rail = Rail::build(route, &VirlConfig::default(), None, RandomKey::new(0, "test"));
    assert_eq!(
        rail.str_instruction(),
        "1. To begin, turn slightly right until you face north.\n\
         2. Walk on until the next intersection.\n\
         3. Turn slightly left until you face north.\n\
         4. Walk on until the next intersection, where Maple Books is on your right behind.\n\
         5. Turn slightly left until you face north.\n\
         6. Walk on until the next intersection.\n\
         7. Turn left until you face south.\n\
         8. Walk on until your destination, where Daisy Museum is on your behind."
    );
    let legacy = VirlConfig { legacy_nowrap: true, ..VirlConfig::default() };
    let rail = Rail::build(route, &legacy, None, RandomKey::new(0, "test"));
    assert_eq!(rail.instruction(1), "To begin, turn left until you face north.");
    assert_eq!((rail.instruction(0), rail.instruction(9)), ("", ""));
}

#[test]
fn a_first_direction_of_zero_is_drawn() {
    let mut route = golden_routes().remove(0);
    route.init_heading = None;
    let drawn = |index| {
        let rail = Rail::build(&route, &VirlConfig::default(), None, RandomKey::new(3, "test").at(index));
        rail.points()[0].heading
    };
    let headings: Vec<f64> = (0..2000).map(drawn).collect();
    assert!(headings.iter().all(|heading| (0.0..360.0).contains(heading) && heading.fract() == 0.0));
    // 2000 draws of 360 leave out 360 (1 - 1/360)^2000 = 1.4 on average.
    assert!(headings.iter().map(|heading| *heading as u64).collect::<HashSet<_>>().len() >= 350);
    assert_eq!(drawn(7), headings[7]);
}

/// What every rail keeps to, on 600 routes of each of six cities, under all settings that matter.
#[test]
fn rails_of_synthetic_routes_keep_their_properties() {
    let mut kept = 0_usize;
    let mut offered = 0_usize;
    for city in 0..6 {
        let routes = Synthetic::new(&synthetic(city)).unwrap();
        for number in 0..600 {
            let route = routes.route(number).unwrap();
            let config = VirlConfig { relocation: number % 2 == 0, ..VirlConfig::default() };
            let rail = Rail::build(&route, &config, None, RandomKey::new(city, "test").at(number));
            let points = rail.points();
            let num_segments = route.segments.len();
            assert!(points.last().unwrap().is_stop());
            assert_eq!(points.iter().filter(|point| point.is_stop()).count(), 1);
            for space in [ActionSpace::Absolute, ActionSpace::Relative] {
                let turns = points.iter().filter(|point| point.action(space).kind() == "turn");
                assert_eq!(turns.count(), num_segments);
                assert!(points.iter().all(|point| space.actions().any(|action| action == point.action(space))));
            }
            assert_eq!(points.iter().filter(|point| point.is_waypoint).count(), num_segments);
            assert!(points.windows(2).all(|pair| pair[0].instruction_idx <= pair[1].instruction_idx));
            assert_eq!((points[0].instruction_idx, points.last().unwrap().instruction_idx), (1, 2 * num_segments));
            for point in points {
                let sentence = rail.instruction(point.instruction_idx);
                let turns = point.action(ActionSpace::Absolute).kind() == "turn";
                assert_eq!(sentence.contains(" until you face "), turns, "{sentence}");
                if turns {
                    // The cue of either rule stands in the sentence.
                    let bare = |action: Action| action.label()["turn_direction(".len()..].replace(')', "");
                    let relative = format!("urn {} until", bare(point.action(ActionSpace::Relative)));
                    let absolute = format!(" face {}.", bare(point.action(ActionSpace::Absolute)));
                    assert!(sentence.contains(&relative) && sentence.ends_with(&absolute), "{sentence}");
                }
                assert_eq!(point.intersection_observation().is_empty(), !point.is_waypoint);
                if !point.is_waypoint {
                    assert_eq!(rail.landmark_observation(point), NO_LANDMARK);
                }
            }
            if config.relocation {
                let waypoints: Vec<Geocode> =
                    [route.start].into_iter().chain(route.segments.iter().map(|segment| segment.end)).collect();
                for point in points.iter().filter(|point| !point.is_waypoint).skip(1) {
                    assert!(waypoints.iter().any(|place| point.geocode.distance(*place) < 130.0));
                }
                let mut leg = 0;
                for point in &points[1..] {
                    if point.is_waypoint {
                        leg += 1;
                    } else {
                        let [from, to] = [waypoints[leg], waypoints[leg + 1]];
                        assert!(CLEARANCE_M < point.geocode.distance(from) && CLEARANCE_M < point.geocode.distance(to));
                    }
                }
            } else {
                offered += 4 * num_segments;
                kept += points.len() - 1 - num_segments;
            }
        }
    }
    // Half of the points are kept; five standard deviations of a binomial.
    let spread = 5.0 * (offered as f64).sqrt() / 2.0;
    assert!((kept as f64 - offered as f64 / 2.0).abs() < spread, "{kept} of {offered}");
}

#[test]
fn synthetic_routes_are_as_specified() {
    let mut segments = [0_usize; 7];
    let (mut with_landmark, mut waypoints) = (0_usize, 0_usize);
    let (mut diagonal_turns, mut right_angles, mut off_axis) = (0, 0, 0);
    let mut all = HashSet::new();
    for city in 0..3 {
        let routes = Synthetic::new(&synthetic(city)).unwrap();
        for number in 0..routes.num_routes() {
            let route = routes.route(number).unwrap();
            assert_eq!(route, routes.route(number + routes.num_routes()).unwrap(), "numbers wrap");
            all.insert(format!("{route:?}"));
            let count = route.segments.len();
            segments[count] += 1;
            let heading = route.init_heading.unwrap();
            assert!((1.0..360.0).contains(&heading) && heading.fract() == 0.0);
            let mut from = route.start;
            let mut before: Option<f64> = None;
            for (index, Segment { end, heading, compass, landmark }) in route.segments.iter().enumerate() {
                let length = from.distance(*end);
                let range = if index == 0 { 20.0..60.0 } else { 49.0..190.0 };
                assert!(range.contains(&length), "leg {index} of {length} m");
                // A heading is rounded to whole degrees, coordinates to a centimetre.
                let difference = (from.bearing(*end) - heading).rem_euclid(360.0);
                assert!(difference.min(360.0 - difference) < 0.6, "{difference}");
                assert!((0.0..360.0).contains(heading) && heading.fract() == 0.0);
                assert_eq!(*compass, Compass::nearest(*heading));
                off_axis += usize::from(heading % 90.0 != 0.0);
                if let Some(before) = before {
                    let turn = (heading - before + 180.0).rem_euclid(360.0) - 180.0;
                    assert!(turn.abs() < 172.0, "a turn back: {turn}");
                    diagonal_turns += usize::from((30.0..60.0).contains(&turn.abs()));
                    right_angles += usize::from((75.0..105.0).contains(&turn.abs()));
                }
                if index + 1 < count {
                    waypoints += 1;
                    with_landmark += usize::from(landmark.is_some());
                } else {
                    let phrase = landmark.as_ref().unwrap();
                    let destination = &route.destination;
                    let (name, words) = phrase.split_once(" is on your ").unwrap();
                    assert_eq!(name, destination.name);
                    let distance = end.distance(destination.geocode);
                    assert!((9.9..20.1).contains(&distance), "{distance}");
                    let bearing = end.bearing(destination.geocode);
                    let near = [-0.5, 0.0, 0.5].map(|slack| Relation::nearest(*heading, bearing + slack).label());
                    assert!(near.contains(&words), "{phrase}: {bearing} from {heading}");
                }
                before = Some(*heading);
                from = *end;
            }
            let names: Vec<&str> = route.segments.iter().filter_map(|s| s.landmark.as_deref()).collect();
            assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
            assert_eq!(route.landmark_list.len(), count);
        }
    }
    assert_eq!(all.len(), 3000, "routes repeat");
    // 3000 draws of five equally likely lengths: chi-square below its 99.9 % quantile at 4 degrees of freedom.
    let chi_square: f64 = segments[2..].iter().map(|&count| (count as f64 - 600.0).powi(2) / 600.0).sum();
    assert!(chi_square < 18.467 && segments[..2] == [0, 0], "{segments:?}");
    let share = with_landmark as f64 / waypoints as f64;
    // Four standard deviations.
    assert!((share - LANDMARK_SHARE).abs() < 4.0 * (0.21 / waypoints as f64).sqrt(), "{share}");
    assert!(diagonal_turns > 200 && right_angles > 2000, "{diagonal_turns} {right_angles}");
    assert!(off_axis > 8000, "{off_axis}");
}

#[test]
fn a_city_is_a_jittered_grid() {
    for number in 0..3 {
        let city = City::new(number).unwrap();
        let mut diagonals = 0;
        for column in 0..SIDE {
            for row in 0..SIDE {
                let here = rl_envs::virl::city::Intersection { column, row };
                let mut straight = 0;
                for (way, next) in city.ways(here) {
                    let back = (-way.0, -way.1);
                    assert!(city.ways(next).any(|(other, place)| other == back && place == here), "{here:?} {way:?}");
                    if way.0 != 0 && way.1 != 0 {
                        diagonals += 1;
                        continue;
                    }
                    straight += 1;
                    let ((x, y), (u, v)) = (city.metres(here), city.metres(next));
                    let length = (u - x).hypot(v - y);
                    assert!((SPACING_M[0] - 10.0..SPACING_M[1] + 12.0).contains(&length), "{length}");
                }
                let border = [column, row].iter().filter(|&&at| at == 0 || at + 1 == SIDE).count();
                assert_eq!(straight, 4 - border);
            }
        }
        // 529 blocks with probability 0.15, each seen from both ends; four standard deviations.
        let blocks = f64::from(diagonals) / 2.0;
        assert!((blocks - 79.35).abs() < 4.0 * 8.2, "{blocks}");
    }
    let north = |number: u64| {
        let city = City::new(number).unwrap();
        let corner = |row| city.metres(rl_envs::virl::city::Intersection { column: 0, row });
        let ((x, y), (u, v)) = (corner(0), corner(SIDE - 1));
        (u - x).atan2(v - y).to_degrees()
    };
    for (number, rotation) in [(0, 0.0), (1, 29.0), (2, 45.0), (3, 0.0)] {
        assert!((north(number) - rotation).abs() < 1.0, "{}", north(number));
    }
}

/// A folder of its own below the system's temporary one, removed afterwards.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("rl-envs-virl-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn route_files_round_trip() {
    let folder = Folder::new("round-trip");
    let config = SyntheticConfig { num_routes: 40, ..synthetic(1) };
    let settings = VirlConfig { routes: RouteSource::Synthetic(config), ..VirlConfig::default() };
    let set = RouteSet::shared(&settings).unwrap();
    set.write(&folder.0).unwrap();
    let first = std::fs::read(folder.0.join(ROUTES_FILE)).unwrap();
    let read = RouteSet::read(&folder.0, true).unwrap();
    assert_eq!(read.num_routes(), 40);
    for number in 0..40 {
        assert_eq!(read.route(number).unwrap(), set.route(number).unwrap());
    }
    // 40 routes of at least 2 legs and 70 m have more than this many places every 10 m.
    let panoramas = read.panoramas().unwrap();
    assert!(panoramas.panoramas().len() > 400);
    // Again, from what was read: the same bytes.
    read.write(&folder.0).unwrap();
    assert_eq!(std::fs::read(folder.0.join(ROUTES_FILE)).unwrap(), first);
    assert_eq!(RouteSet::read(&folder.0, true).unwrap().panoramas().unwrap().panoramas(), panoramas.panoramas());

    // The published layout: a pair, and the keys that other readers look for.
    let pair: Value = serde_json::from_slice(&first).unwrap();
    assert_eq!(pair[1], 40);
    let route = &pair[0][0];
    for pointer in [
        "/start_place/relocated_geocode/1",
        "/dest_place/name",
        "/dest_place/geocode/0",
        "/init_heading",
        "/milestone_info",
        "/route_results/geocode_list/0/0",
        "/route_results/landmark_list/0",
    ] {
        assert!(route.pointer(pointer).is_some(), "{pointer}");
    }
    let blocks = route["milestone_info"].as_str().unwrap().matches('{').count();
    assert_eq!(blocks, route["route_results"]["geocode_list"].as_array().unwrap().len());

    // Without relocation the folder is the same task as the city it was written from.
    let folder_routes = RouteSource::Folder(FolderConfig { path: folder.0.clone() });
    let from_city = VirlConfig { relocation: false, ..settings };
    let from_folder = VirlConfig { routes: folder_routes.clone(), ..from_city.clone() };
    let (mut one, mut other) = (Virl::new(from_city).unwrap(), Virl::new(from_folder).unwrap());
    for index in 0..60 {
        assert_eq!(one.reset(9, index).unwrap(), other.reset(9, index).unwrap());
        assert_eq!(one.rail(), other.rail());
    }
    // With it, points move to the panoramas beside them.
    let mut relocated =
        Virl::new(VirlConfig { routes: folder_routes, order: RouteOrder::Sequential, ..VirlConfig::default() })
            .unwrap();
    let known: HashSet<String> = panoramas.panoramas().iter().map(|(place, _)| format!("{place:?}")).collect();
    let mut moved = 0;
    for index in 0..80 {
        relocated.reset(9, index).unwrap();
        assert_eq!(relocated.position(), Some((index % 40, 0)));
        for point in relocated.rail().unwrap().points() {
            assert!(known.contains(&format!("{:?}", point.geocode)));
            moved += usize::from(!point.is_waypoint);
        }
    }
    assert!(moved > 300, "{moved}");
    assert!(Arc::ptr_eq(
        &RouteSet::shared(relocated.config()).unwrap(),
        &RouteSet::shared(relocated.config()).unwrap()
    ));
}

#[test]
fn bad_files_are_refused_by_name() {
    let folder = Folder::new("bad");
    let path = folder.0.join(ROUTES_FILE);
    let message = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let error = read_routes(&path).unwrap_err();
        assert!(matches!(error, Error::RouteFile { .. }));
        error.to_string()
    };
    write_routes(&path, &golden_routes()).unwrap();
    let good = std::fs::read_to_string(&path).unwrap();
    for (text, expected) in [
        (String::new(), "not a pair [routes, number]"),
        ("[[], 1]".into(), "holds 0 routes but says 1"),
        (
            good.replace("\"init_heading\": 200", "\"init_heading\": \"north\""),
            "route 0 (counted from 0): init_heading is",
        ),
        (good.replace("40.75,", "140.75,"), "latitude 140.75"),
        (
            good.replacen("to_next_intersection_heading", "heading", 1),
            "route 0 (counted from 0): milestone_info: block 1: no",
        ),
        (good.replacen("\\n}\\n", "\\n", 1), "blocks in milestone_info for 4 waypoints"),
        (good.replacen("dest_place", "goal", 1), "missing field `dest_place`"),
    ] {
        let found = message(&text);
        assert!(found.contains(expected) && found.contains("route_infos.json"), "{found}");
    }
    std::fs::write(&path, &good).unwrap();
    let error = RouteSet::read(&folder.0, true).unwrap_err().to_string();
    assert!(error.contains(PANORAMA_FILE) && error.contains("set relocation = false"), "{error}");
    std::fs::write(folder.0.join(PANORAMA_FILE), "{\"40.75\": 1}").unwrap();
    let error = RouteSet::read(&folder.0, true).unwrap_err().to_string();
    assert!(error.contains("write it as \"latitude,longitude\""), "{error}");
    assert!(RouteSet::new(Vec::new(), None).is_err());
    assert_eq!(RouteSet::read(&folder.0, false).unwrap().num_routes(), 4);
}

#[test]
fn panoramas_are_found_as_by_looking_at_all() {
    let key = RandomKey::new(1, "panoramas");
    for latitude in [0.0, 40.75, -60.0, 85.0] {
        let origin = Geocode::new(latitude, 12.0).unwrap();
        let draw = |index: u64| {
            let key = key.at(index);
            origin.offset(300.0 * (key.uniform(0) - 0.5), 300.0 * (key.uniform(1) - 0.5)).unwrap()
        };
        let places: Vec<(Geocode, String)> = (0..150).map(|index| (draw(index), index.to_string())).collect();
        let map = PanoramaMap::new(places.clone());
        let mut found = 0;
        for index in 1000..1400 {
            let place = draw(index);
            let nearest = places.iter().map(|(other, _)| (place.distance(*other), *other));
            let nearest = nearest.min_by(|a, b| a.0.total_cmp(&b.0)).filter(|(distance, _)| *distance <= 20.0);
            assert_eq!(map.nearest(place), nearest.map(|(_, place)| place));
            found += usize::from(nearest.is_some());
        }
        assert!((200..400).contains(&found), "{found}");
        assert_eq!(PanoramaMap::from_json(&map.to_json().unwrap()).unwrap().panoramas(), map.panoramas());
    }
    let map = PanoramaMap::from_json(r#"{"(40.5, -73.25)": "abc", "1,2": 7}"#).unwrap();
    let names: Vec<&str> = map.panoramas().iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["abc", "7"]);
    assert_eq!(map.panoramas()[0].0, Geocode::new(40.5, -73.25).unwrap());
}
