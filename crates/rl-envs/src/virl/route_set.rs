//! The routes an environment takes: invented on demand, or read from a folder in the published layout.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use super::config::{RouteSource, VirlConfig};
use super::geodesy::Geocode;
use super::panorama::PanoramaMap;
use super::route::{Route, RouteRecord};
use super::synthetic::Synthetic;
use crate::error::{Error, Result};

/// Routes of a folder: the JSON pair `[routes, number of routes]`.
pub const ROUTES_FILE: &str = "route_infos.json";
/// Panoramas of a folder, as [`PanoramaMap::from_json`] reads them.
pub const PANORAMA_FILE: &str = "gps_to_panorama.json";
/// Distance between the panoramas of [`RouteSet::panoramas_along`], metres.
pub const PANORAMA_SPACING_M: f64 = 10.0;

/// Routes, and where panoramas are.
#[derive(Debug, Clone)]
pub struct RouteSet {
    routes: Routes,
    panoramas: Option<PanoramaMap>,
}

#[derive(Debug, Clone)]
enum Routes {
    Synthetic(Box<Synthetic>),
    Listed(Vec<Route>),
}

/// Sets by folder, and whether with panoramas.
type ReadFolders = HashMap<(PathBuf, bool), Arc<RouteSet>>;

impl RouteSet {
    /// The routes of `config`. A folder is read once per process and shared, with and without its panoramas.
    ///
    /// # Errors
    /// [`Error::Config`] for impossible synthetic routes; [`Error::RouteFile`] naming the file, the route and what is wrong.
    pub fn shared(config: &VirlConfig) -> Result<Arc<RouteSet>> {
        static FOLDERS: LazyLock<Mutex<ReadFolders>> = LazyLock::new(Mutex::default);
        match &config.routes {
            RouteSource::Synthetic(routes) => {
                let routes = Routes::Synthetic(Box::new(Synthetic::new(routes)?));
                Ok(Arc::new(RouteSet { routes, panoramas: None }))
            }
            RouteSource::Folder(folder) => {
                let key = (folder.path.clone(), config.relocation);
                // A panic elsewhere cannot leave the map half written, so a poisoned lock is still good.
                let mut folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(set) = folders.get(&key) {
                    return Ok(Arc::clone(set));
                }
                let set = Arc::new(RouteSet::read(&folder.path, config.relocation)?);
                folders.insert(key, Arc::clone(&set));
                Ok(set)
            }
        }
    }

    /// The set of `routes` and `panoramas`; without panoramas every point is its own.
    ///
    /// # Errors
    /// [`Error::RouteFile`] when there is no route, or one without segments.
    pub fn new(routes: Vec<Route>, panoramas: Option<PanoramaMap>) -> Result<Self> {
        if routes.is_empty() || routes.iter().any(|route| route.segments.is_empty()) {
            return Err(wrong(Path::new("routes"), "give at least one route, each with at least one segment"));
        }
        Ok(RouteSet { routes: Routes::Listed(routes), panoramas })
    }

    /// Reads a folder: [`ROUTES_FILE`], and [`PANORAMA_FILE`] if `with_panoramas`.
    ///
    /// # Errors
    /// [`Error::RouteFile`] naming the file, the route and what is wrong.
    pub fn read(folder: &Path, with_panoramas: bool) -> Result<Self> {
        let routes = read_routes(&folder.join(ROUTES_FILE))?;
        let path = folder.join(PANORAMA_FILE);
        let panoramas = with_panoramas.then(|| {
            let text = fs::read_to_string(&path).map_err(|error| {
                wrong(&path, format!("{error}; give the map of panoramas, or set relocation = false"))
            })?;
            PanoramaMap::from_json(&text).map_err(|reason| wrong(&path, reason))
        });
        RouteSet::new(routes, panoramas.transpose()?)
    }

    /// Writes all routes to a folder in the published layout, and the panoramas: those of the set, or else one every 10 m.
    ///
    /// # Errors
    /// [`Error::RouteFile`] when a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let routes = (0..self.num_routes()).map(|number| self.route(number)).collect::<Result<Vec<_>>>()?;
        fs::create_dir_all(folder).map_err(|error| wrong(folder, error))?;
        write_routes(&folder.join(ROUTES_FILE), &routes)?;
        let path = folder.join(PANORAMA_FILE);
        let panoramas = match &self.panoramas {
            Some(panoramas) => panoramas.to_json(),
            None => PanoramaMap::new(RouteSet::panoramas_along(&routes)).to_json(),
        };
        fs::write(&path, panoramas.map_err(|error| wrong(&path, error))?).map_err(|error| wrong(&path, error))
    }

    /// Panoramas at the start, at each waypoint and every 10 m between, along all `routes`.
    pub fn panoramas_along(routes: &[Route]) -> Vec<(Geocode, String)> {
        let mut places = Vec::new();
        for route in routes {
            let mut from = route.start;
            places.push(from);
            for segment in &route.segments {
                let pieces = (from.distance(segment.end) / PANORAMA_SPACING_M).ceil().max(1.0);
                places.extend((1..=pieces as u32).map(|piece| from.toward(segment.end, f64::from(piece) / pieces)));
                from = segment.end;
            }
        }
        places.into_iter().enumerate().map(|(number, place)| (place, format!("panorama_{number}"))).collect()
    }

    /// Routes.
    pub fn num_routes(&self) -> u64 {
        match &self.routes {
            Routes::Synthetic(routes) => routes.num_routes(),
            Routes::Listed(routes) => routes.len() as u64,
        }
    }

    /// Route `number`, counted from 0 and modulo their number.
    ///
    /// # Errors
    /// None for routes that were read.
    pub fn route(&self, number: u64) -> Result<Route> {
        self.with_route(number, Route::clone)
    }

    /// Where panoramas are; `None` when every point is its own.
    pub fn panoramas(&self) -> Option<&PanoramaMap> {
        self.panoramas.as_ref()
    }

    /// `read` of route `number`, which is copied only where it must be made.
    pub(super) fn with_route<T>(&self, number: u64, read: impl FnOnce(&Route) -> T) -> Result<T> {
        match &self.routes {
            Routes::Synthetic(routes) => Ok(read(&routes.route(number)?)),
            Routes::Listed(routes) => Ok(read(&routes[(number % routes.len() as u64) as usize])),
        }
    }
}

/// Reads the JSON pair `[routes, number of routes]`.
///
/// # Errors
/// [`Error::RouteFile`] naming the file, the route and what is wrong.
pub fn read_routes(path: &Path) -> Result<Vec<Route>> {
    let text = fs::read_to_string(path).map_err(|error| wrong(path, error))?;
    let pair: serde_json::Result<(Vec<serde_json::Value>, u64)> = serde_json::from_str(&text);
    let (records, count) = pair.map_err(|error| wrong(path, format!("not a pair [routes, number]: {error}")))?;
    if records.len() as u64 != count {
        return Err(wrong(path, format!("holds {} routes but says {count}", records.len())));
    }
    let read = |(number, record): (usize, serde_json::Value)| {
        let route = serde_json::from_value(record).map_err(|error| error.to_string()).and_then(RouteRecord::read);
        route.map_err(|reason| wrong(path, format!("route {number} (counted from 0): {reason}")))
    };
    records.into_iter().enumerate().map(read).collect()
}

/// Writes the JSON pair `[routes, number of routes]`.
///
/// # Errors
/// [`Error::RouteFile`] when the file cannot be written.
pub fn write_routes(path: &Path, routes: &[Route]) -> Result<()> {
    let records: Vec<RouteRecord> = routes.iter().map(RouteRecord::write).collect();
    let text = serde_json::to_string_pretty(&(&records, records.len())).map_err(|error| wrong(path, error))?;
    fs::write(path, text + "\n").map_err(|error| wrong(path, error))
}

fn wrong(path: &Path, reason: impl ToString) -> Error {
    Error::RouteFile { path: path.to_path_buf(), reason: reason.to_string() }
}
