//! The words of a report that a stranger doesn't know, each in a sentence: on the page those that it uses, in the documents all.

/// A word and its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// As reports have it.
    pub word: &'static str,
    /// In one sentence.
    pub meaning: &'static str,
}

const fn word(word: &'static str, meaning: &'static str) -> Word {
    Word { word, meaning }
}

/// All of them: first how it is measured, then how it is told, then what belongs to engines and kernels.
pub const WORDS: &[Word] = &[
    word("block", "all environments started afresh, measured, and stopped: intervals count blocks"),
    word("round", "within a block, one burst of a workload in each environment, in an order drawn at random"),
    word(
        "burst",
        "one timed pass of a workload: some tens of milliseconds, ended by its number of operations or by the time limit",
    ),
    word("void", "said of a round that was dropped for all, since the host itself was disturbed"),
    word("control", "the baseline a second time: what the two differ by is noise"),
    word("net", "the baseline's figure, pooled over all blocks"),
    word("gross", "the environment's figure, pooled likewise"),
    word("tare", "the difference of net and gross; a plus is worse, so of a throughput what there is less"),
    word(
        "overhead",
        "how many times the baseline's time: the middle of the blocks' ratios, which need not be gross by net",
    ),
    word("margin", "the change that is worth deciding about, 5 % unless said otherwise"),
    word("noise floor", "half the width of the control's interval: a smaller difference is noise"),
    word("smallest visible change", "what this run would have seen four times in five"),
    word("sound", "of a control: both baselines agree, more closely than the margin"),
    word("coarse", "of a control: both agree, but not more closely than the margin"),
    word("trusted", "of a cell: no flag speaks against it, which says nothing of how wide its interval is"),
    word("suspect", "of a cell: a flag gives a reason to doubt it"),
    word("not ranked", "of a cell that is invalid: it doesn't measure what it says, and is shown but not compared"),
    word("p50", "the time within which half of the operations were done"),
    word("p99", "the time within which 99 of 100 were done"),
    word("stalls per million", "operations of more than ten times the environment's own p50"),
    word("crowded", "others used the CPU meanwhile"),
    word("switches", "how often a thread of the box was given a CPU, by operation"),
    word("written by byte", "bytes written to the device for each byte that the work made durable"),
    word("memory held", "what an idle box holds after its start"),
    word("page cache after", "what the host keeps in memory of its files after a burst"),
    word("memory after", "what the box holds after a burst"),
    word("agent", "the part of tarebench that works inside a box; its hello is its first message"),
    word("systrap", "the way of newer gVisors to catch system calls; older ones have ptrace, which is slower"),
    word("gofer", "gVisor's helper that opens files for the sandbox"),
    word("directfs", "a gVisor that opens files itself"),
    word("netstack", "gVisor's own TCP/IP"),
    word("9p", "a protocol by which a box asks a server for files"),
    word("TCG", "QEMU translating every instruction, where it has no KVM"),
    word("vhost", "the host's kernel moving a machine's packets, instead of the machine's own program"),
    word("gro", "a kernel joining small packets into large ones before they are handled"),
    word("MSR", "a register of the CPU that a machine's monitor sets up"),
    word("reno", "an old way of TCP to decide how fast to send"),
    word("cubic", "the common way of TCP to decide how fast to send"),
    word("bbr", "a newer way of TCP to decide how fast to send, by the rate that arrives"),
];

/// Those that a text uses, as words of their own.
#[must_use]
pub fn used(text: &str) -> Vec<&'static Word> {
    WORDS.iter().filter(|entry| uses(text, entry.word)).collect()
}

fn uses(text: &str, word: &str) -> bool {
    let letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    text.match_indices(word).any(|(at, _)| {
        let after = text[at + word.len()..].strip_prefix('s').unwrap_or(&text[at + word.len()..]);
        !letter(text[..at].chars().next_back()) && !letter(after.chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_used_where_it_stands_by_itself() {
        let words = |text| used(text).into_iter().map(|entry| entry.word).collect::<Vec<_>>();
        assert_eq!(words("8 blocks, gro on; blocked by a kernel; 9p"), ["block", "9p", "gro"]);
        assert_eq!(words("nothing of it"), [""; 0]);
    }

    #[test]
    fn no_word_stands_twice() {
        let all: std::collections::BTreeSet<&str> = WORDS.iter().map(|entry| entry.word).collect();
        assert_eq!(all.len(), WORDS.len());
    }
}
