//! The formats there are.

use super::programs::{bmf, github, hgrm, hlog, junit, openmetrics};
use super::{Format, csv, html, json, markdown, plots, terminal};

static FORMATS: [Format; 13] = [
    Format {
        name: "terminal",
        extension: "txt",
        about: "sentences and a table per workload, as wide as the terminal",
        renderer: &terminal::Terminal { colour: false, width: terminal::WIDTH },
    },
    Format {
        name: "html",
        extension: "html",
        about: "one page that needs no network, with plots, in light and dark",
        renderer: &html::Html,
    },
    Format {
        name: "markdown",
        extension: "md",
        about: "for pull requests: sentences, a table, flags as footnotes",
        renderer: &markdown::Markdown,
    },
    Format { name: "json", extension: "json", about: "for programs: schema tarebench.report/1", renderer: &json::Json },
    Format {
        name: "csv",
        extension: "csv",
        about: "for spreadsheets: one line per workload, environment and metric",
        renderer: &csv::Csv,
    },
    Format {
        name: "svg",
        extension: "svg",
        about: "the overhead of every environment as one picture",
        renderer: &plots::forest::Svg,
    },
    Format {
        name: "png",
        extension: "png",
        about: "the same in pixels, for where SVG isn't shown",
        renderer: &plots::png::Png,
    },
    Format {
        name: "junit",
        extension: "xml",
        about: "for the test tab of CI: a suite per workload, a case per environment",
        renderer: &junit::Junit,
    },
    Format { name: "bmf", extension: "json", about: "for Bencher: Bencher Metric Format", renderer: &bmf::Bmf },
    Format {
        name: "github-benchmark",
        extension: "json",
        about: "for github-action-benchmark: customSmallerIsBetter",
        renderer: &github::GithubBenchmark,
    },
    Format {
        name: "openmetrics",
        extension: "om",
        about: "for Prometheus: overheads, verdicts, latencies, starts and memory",
        renderer: &openmetrics::OpenMetrics,
    },
    Format {
        name: "hlog",
        extension: "hlog",
        about: "for HdrHistogram's tools: every histogram in full, in nanoseconds",
        renderer: &hlog::Hlog,
    },
    Format {
        name: "hgrm",
        extension: "hgrm",
        about: "for HdrHistogram's plotters: percentiles of every histogram, in milliseconds",
        renderer: &hgrm::Hgrm,
    },
];

/// All formats, in the order to list them.
#[must_use]
pub fn formats() -> &'static [Format] {
    &FORMATS
}

/// The format of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|f| f.name == name)
}

/// The format that a file's extension asks for, whatever its case.
#[must_use]
pub fn by_extension(extension: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|f| f.extension.eq_ignore_ascii_case(extension))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::Comparison;
    use crate::render::{sample, words};

    /// The made-up run, through the real statistics.
    fn example() -> Comparison {
        crate::comparison::compare(&crate::example::stored(), crate::comparison::Method::default())
    }

    #[test]
    fn every_format_names_every_environment_of_a_run() {
        let c = example();
        for format in formats().iter().filter(|f| f.name != "png") {
            let text = String::from_utf8(format.renderer.render(&c).unwrap()).unwrap();
            for environment in words::compared(&c).filter(|e| words::tried(&c).any(|tried| tried == *e)) {
                let name = &environment.plan.name;
                assert!(text.contains(name.as_str()), "{name} in {}", format.name);
            }
        }
    }

    #[test]
    fn the_same_comparison_gives_the_same_bytes() {
        for format in formats() {
            let once = format.renderer.render(&sample::comparison()).unwrap();
            assert!(!once.is_empty(), "{}", format.name);
            assert!(once == format.renderer.render(&sample::comparison()).unwrap(), "{} differs", format.name);
        }
    }

    #[test]
    fn every_format_is_found_by_name_and_extension() {
        for format in formats() {
            assert_eq!(find(format.name).unwrap().name, format.name);
            assert_eq!(by_extension(&format.extension.to_uppercase()).unwrap().extension, format.extension);
        }
        assert!(find("pdf").is_none() && by_extension("pdf").is_none());
    }

    #[test]
    fn no_format_gives_up_on_a_run_without_results() {
        let mut c = sample::comparison();
        c.cells.clear();
        c.control.clear();
        c.distributions.clear();
        c.resolution.clear();
        c.blocks = 0;
        for format in formats() {
            assert!(format.renderer.render(&c).is_ok(), "{}", format.name);
        }
    }

    #[test]
    fn no_program_takes_a_run_for_sound_that_is_invalid() {
        let mut c = sample::comparison();
        let written =
            |c: &Comparison, name: &str| String::from_utf8(find(name).unwrap().renderer.render(c).unwrap()).unwrap();
        let trusted = |text: &str| text.matches("trusted").count();
        assert!(trusted(&written(&c, "csv")) > 0 && written(&c, "bmf").contains("\"value\""));
        c.invalid.push("61 of 100 rounds are void".into());
        for name in ["csv", "github-benchmark", "junit"] {
            assert_eq!(trusted(&written(&c, name)), 0, "{name}");
        }
        assert!(!written(&c, "bmf").contains("\"value\""));
        let metrics = written(&c, "openmetrics");
        assert!(!metrics.contains("tarebench_overhead_ratio{") && metrics.contains("tarebench_verdict=\"invalid\"} 1"));
        assert!(!metrics.contains("tarebench_verdict=\"trusted\"} 1"), "{metrics}");
        let junit = written(&c, "junit");
        assert!(junit.contains("<failure type=\"invalid\" message=\"61 of 100 rounds are void\"/>"), "{junit}");
        let json: serde_json::Value = serde_json::from_str(&written(&c, "json")).unwrap();
        let cells = json["cells"].as_array().unwrap();
        assert!(!cells.is_empty() && cells.iter().all(|cell| cell["verdict"] == "invalid" && cell["ranked"] == false));
        for text in ["terminal", "html", "markdown"] {
            assert!(written(&c, text).contains("61 of 100 rounds are void"), "{text}");
        }
    }

    /// Writes every format of every sample to `$TAREBENCH_SAMPLES`, for eyes: some things no assertion sees.
    #[test]
    fn samples_for_eyes() {
        let Some(folder) = std::env::var_os("TAREBENCH_SAMPLES") else { return };
        let samples = [
            ("example", example()),
            ("comparison", sample::comparison()),
            ("large", sample::large()),
            ("short", sample::short()),
            ("hostile", sample::hostile()),
        ];
        for (name, c) in samples {
            for format in formats() {
                let path = std::path::Path::new(&folder).join(format!("{name}.{}", format.name));
                std::fs::write(path, format.renderer.render(&c).unwrap()).unwrap();
            }
        }
    }
}
