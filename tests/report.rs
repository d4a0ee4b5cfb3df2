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

/// The latest report as a terminal of so many columns is sent it.
fn on_a_terminal(b: &Dir, columns: u16, set: &[(&str, &str)]) -> String {
    let size = nix::pty::Winsize { ws_row: 40, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = nix::pty::openpty(Some(&size), None).expect("a pseudo terminal");
    let mut command = b.command(&["report"]);
    command.env("TERM", "xterm").env_remove("NO_COLOR").envs(set.iter().copied());
    let mut child = command.stdout(terminal.slave).spawn().expect("the program starts");
    drop(command);
    // The end of a terminal that nobody has open any more is an error.
    let (mut master, mut sent, mut part) = (fs::File::from(terminal.master), Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = std::io::Read::read(&mut master, &mut part) {
        sent.extend_from_slice(&part[..length]);
    }
    assert!(child.wait().expect("it ends").success());
    String::from_utf8(sent).expect("text").replace('\r', "")
}

#[test]
fn a_terminal_gets_its_own_width_and_colours_only_where_they_are_wanted() {
    let b = Dir::new();
    let fio = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fio/read-plus.json");
    let [bare, boxed] = ["bare", "boxed"].map(|name| format!("{name}={}", fio.display()));
    b.run(&["import", "fio", &bare, &boxed]).ends_with(0);
    let widest = |text: &str| text.lines().filter(|l| !l.starts_with("again: ")).map(|l| l.chars().count()).max();
    let plain = on_a_terminal(&b, 60, &[("NO_COLOR", "1")]);
    assert!(!plain.contains('\u{1b}') && widest(&plain) <= Some(60), "{plain}");
    assert_eq!(on_a_terminal(&b, 60, &[("TERM", "dumb")]), plain);
    assert_eq!(on_a_terminal(&b, 20, &[("TERM", "dumb")]), plain, "there is an end to narrowness");
    assert!(on_a_terminal(&b, 60, &[]).contains("\u{1b}["));
    let wide = on_a_terminal(&b, 120, &[("NO_COLOR", "1")]);
    assert!(widest(&wide) > Some(60) && widest(&wide) <= Some(120), "{wide}");
    // A file is not a terminal, whoever watches.
    b.run(&["report", "-o", "report.txt"]).ends_with(0);
    assert!(!fs::read_to_string(b.at("report.txt")).expect("written").contains('\u{1b}'));
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
let cut = [];
for (const region of document.querySelectorAll(".scroll")) {
  const table = region.querySelector("table");
  if (table.getClientRects().length && table.getBoundingClientRect().width > region.clientWidth + 1) cut.push(region.getAttribute("aria-label"));
}
root.dataset.cut = cut.join(", ");
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
    // A sheet of A4 across, less its margins, has the width of the second.
    let sheet = b.at("sheet.html");
    let printed = html.replace("@media print", "@media all").replace("<details", "<details open");
    fs::write(&sheet, format!("{printed}{LOOK}")).expect("written");
    for (page, width) in [(&page, 1200), (&sheet, 1030)] {
        let dom = browse(&chromium, &b, page, width, &["--dump-dom"]);
        assert!(dom.contains("data-cut=\"\""), "tables are cut at {width} px: {}", &dom[..dom.len().min(600)]);
    }
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
