//! A real run, drawn in every format, and the page looked at by a real browser.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use common::{Dir, must_run};

/// A small run whose numbers are real: two kinds of work, the baseline, its control and a box.
fn measured(blocks: &str) -> Dir {
    let b = Dir::new();
    b.run(&[
        "run",
        "--env",
        "namespaces",
        "--workload",
        "control/syscall",
        "--workload",
        "sqlite/commit",
        "--blocks",
        blocks,
        "--seed",
        "11",
        "--label",
        "host=test <script>|\"x",
    ])
    .ends_with_any(&[0, 4])
    .says("sqlite/commit");
    b
}

#[test]
fn the_same_store_gives_the_same_bytes_in_every_format() {
    let b = measured("6");
    for format in reports::render::formats().iter().map(|f| f.name) {
        let draw = || b.run(&["report", "--format", format]).ends_with(0).stdout;
        let (first, began) = (draw(), Instant::now());
        assert_eq!(first, draw(), "{format}");
        assert!(began.elapsed().as_secs() < 10, "{format} took {:?}", began.elapsed());
        assert!(!first.is_empty());
    }
    let html = b.run(&["report", "--format", "html"]).stdout;
    assert!(!html.contains("<script>|"), "text from the store is escaped");
    b.holds_only(&["tarebench.db"]);
}

#[test]
fn the_json_is_what_programs_were_promised() {
    // Six blocks are the least for an interval, and a restless disk may take some away.
    let b = measured("12");
    let json: serde_json::Value =
        serde_json::from_str(&b.run(&["report", "--format", "json"]).ends_with(0).stdout).expect("JSON");
    assert_eq!(json["schema"], "tarebench.report/1");
    for key in ["id", "started", "suite", "seed", "blocks", "command", "binary_sha256", "host"] {
        assert!(!json["run"][key].is_null(), "run.{key}");
    }
    assert_eq!(json["run"]["seed"], 11);
    let cells = json["cells"].as_array().expect("cells");
    let p50 = cells
        .iter()
        .find(|c| c["workload"] == "sqlite/commit" && c["environment"] == "namespaces" && c["metric"] == "p50")
        .expect("the cell");
    for key in ["net", "gross", "overhead", "low", "high"] {
        assert!(p50[key].as_f64().is_some_and(|v| v > 0.0), "{key}: {p50}");
    }
    assert!(p50["low"].as_f64() <= p50["overhead"].as_f64() && p50["overhead"].as_f64() <= p50["high"].as_f64());
    assert!(json["control"].as_array().is_some_and(|c| !c.is_empty()));
}

/// Appended to a copy of the page: what a person would see at a glance, as attributes of the root element.
const LOOK: &str = r#"<script>
const root = document.documentElement;
root.dataset.sideways = root.scrollWidth > root.clientWidth + 1 ? root.scrollWidth - root.clientWidth : 0;
let overlaps = 0, texts = 0, example = "";
for (const svg of document.querySelectorAll("svg")) {
  if (!svg.getClientRects().length) continue;
  const boxes = [...svg.querySelectorAll("text")].filter(t => t.textContent.trim()).map(t => [t.getBoundingClientRect(), t.textContent]);
  texts += boxes.length;
  for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
    const [a, b] = [boxes[i][0], boxes[j][0]];
    const w = Math.min(a.right, b.right) - Math.max(a.left, b.left), h = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (w > 2 && h > 4) { overlaps++; example = boxes[i][1] + " / " + boxes[j][1]; }
  }
}
root.dataset.overlaps = overlaps; root.dataset.texts = texts; root.dataset.example = example;
root.dataset.plots = document.querySelectorAll("svg").length;
</script>"#;

fn chromium() -> Option<PathBuf> {
    let found = ["chromium", "chromium-browser", "google-chrome"]
        .iter()
        .flat_map(|name| ["/usr/bin", "/usr/local/bin", "/snap/bin"].map(|dir| Path::new(dir).join(name)))
        .find(|path| path.exists());
    assert!(found.is_some() || !must_run("chromium"), "chromium must be there");
    if found.is_none() {
        eprintln!("SKIPPED: no chromium to look at the report with");
    }
    found
}

fn browse(chromium: &Path, dir: &Dir, page: &Path, width: u32, more: &[&str]) -> String {
    let profile = dir.at("profile");
    let out = Command::new(chromium)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
        ])
        .args(["--disable-component-update", "--disable-sync", "--hide-scrollbars", "--allow-file-access-from-files"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--window-size={width},1400"))
        .args(more)
        .arg(format!("file://{}", page.display()))
        .stderr(Stdio::null())
        .output()
        .expect("chromium starts");
    fs::remove_dir_all(&profile).expect("its profile is ours");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn a_browser_shows_the_page_without_overlap_or_network() {
    let Some(chromium) = chromium() else { return };
    let b = measured("6");
    b.run(&["report", "-o", "report.html"]).ends_with(0);
    let html = fs::read_to_string(b.at("report.html")).expect("readable");
    let references = html.replace("http://www.w3.org/", "");
    assert!(
        !references.contains("src=\"http") && !references.contains("href=\"http") && !references.contains("url(http"),
        "no network"
    );
    let page = b.at("looked-at.html");
    fs::write(&page, format!("{html}{LOOK}")).expect("written");
    for width in [1280, 500] {
        let dom = browse(&chromium, &b, &page, width, &["--dump-dom"]);
        let of = |name: &str| {
            let from = dom.find(&format!("data-{name}=\"")).unwrap_or_else(|| panic!("{name} is not in the page"))
                + name.len()
                + 7;
            dom[from..].split('"').next().unwrap_or_default().to_string()
        };
        assert_eq!(of("sideways"), "0", "the page must not scroll sideways at {width} px");
        assert!(of("plots").parse::<u32>().expect("a number") >= 3, "plots are missing");
        assert!(of("texts").parse::<u32>().expect("a number") > 10, "labels are missing");
        assert_eq!(of("overlaps"), "0", "labels overlap at {width} px: {}", of("example"));
    }
    let shot = b.at("shot.png");
    browse(&chromium, &b, &page, 1280, &[&format!("--screenshot={}", shot.display())]);
    assert!(fs::metadata(&shot).expect("a picture").len() > 20_000);
}
