//! tarebench: what does the box weigh?

use std::path::Path;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("enter") => match runners::enter(std::env::args_os().skip(2))? {},
        Some("agent") => {
            let data = args.nth(1).unwrap_or_else(|| "/data".into());
            workloads::agent::serve(&mut std::io::stdin().lock(), &mut std::io::stdout().lock(), Path::new(&data))
        }
        _ => anyhow::bail!("not yet"),
    }
}
