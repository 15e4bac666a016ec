//! Writes the seeds of all targets into their corpus folders. Other files there stay.

fn main() -> std::io::Result<()> {
    for target in sparse_fuzz::TARGETS {
        let folder = sparse_fuzz::corpus(target.name);
        std::fs::create_dir_all(&folder)?;
        for (name, bytes) in (target.seeds)() {
            std::fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}
