//! Seccomp programs in the kernel's own words (`struct sock_filter`, linux/filter.h): which call it is, is found by a binary
//! search over call numbers.
//!
//! A chain of comparisons, one a call, is judged by the kernel once for every call number when it is installed, and by every
//! call of the program whose answer is not always "allow": with 300 calls that is up to 300 comparisons there and 9 here.

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// The longest program that the kernel takes (BPF_MAXINSNS).
const MOST: usize = 4096;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// Offsets in `struct seccomp_data` (linux/seccomp.h).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// From this number on they are x32 calls, which come with x86-64's own architecture value.
const X32: u32 = 0x4000_0000;

/// AUDIT_ARCH_* of this machine (linux/audit.h).
const ARCH: u32 = if cfg!(target_arch = "x86_64") {
    0xc000_003e
} else if cfg!(target_arch = "aarch64") {
    0xc000_00b7
} else {
    0xc000_00f3 // riscv64
};

/// A condition on the low 32 bits of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub index: u8,
    /// Which of its bits count.
    pub mask: u32,
    pub value: u32,
    /// Whether they must be so, or must not.
    pub equal: bool,
}

/// A list of conditions that must all hold, and what is answered then; no condition always holds.
pub type Case = (Vec<Condition>, u32);

impl Instruction {
    fn new(code: u16, jt: u8, jf: u8, k: u32) -> Self {
        Self { code, jt, jf, k }
    }

    /// As the kernel reads it.
    pub fn bytes(self) -> [u8; 8] {
        let ([a, b], [w, x, y, z]) = (self.code.to_ne_bytes(), self.k.to_ne_bytes());
        [a, b, self.jt, self.jf, w, x, y, z]
    }
}

/// The code of one call: the first case that holds answers.
///
/// # Errors
/// where a case is longer than a jump can be.
pub fn cases(cases: &[Case], otherwise: u32) -> Result<Vec<Instruction>, String> {
    let mut code = Vec::new();
    for (conditions, answer) in cases {
        code.extend(case(conditions, *answer)?);
        if conditions.is_empty() {
            return Ok(code);
        }
    }
    code.push(Instruction::new(RETURN, 0, 0, otherwise));
    Ok(code)
}

/// Falls through to what comes after it where a condition does not hold.
fn case(conditions: &[Condition], answer: u32) -> Result<Vec<Instruction>, String> {
    // Built from its end, so that each jump knows how far away that is.
    let mut backwards = vec![Instruction::new(RETURN, 0, 0, answer)];
    for c in conditions.iter().rev() {
        let out = u8::try_from(backwards.len()).map_err(|_| "a rule has too many conditions".to_owned())?;
        let (jt, jf) = if c.equal { (0, out) } else { (out, 0) };
        backwards.push(Instruction::new(IF_EQUAL, jt, jf, c.value));
        if c.mask != u32::MAX {
            backwards.push(Instruction::new(AND, 0, 0, c.mask));
        }
        // The low half comes first on all machines that we know.
        backwards.push(Instruction::new(LOAD, 0, 0, ARGUMENTS + 8 * u32::from(c.index)));
    }
    backwards.reverse();
    Ok(backwards)
}

/// A whole program out of ranges of call numbers, each with its first number and its code; the first begins at 0. Calls by a
/// foreign convention are answered by `foreign`.
///
/// # Errors
/// where it is longer than the kernel takes.
pub fn program(ranges: &[(u32, Vec<Instruction>)], foreign: u32) -> Result<Vec<Instruction>, String> {
    let mut code = vec![
        Instruction::new(LOAD, 0, 0, ARCHITECTURE),
        Instruction::new(IF_EQUAL, 1, 0, ARCH),
        Instruction::new(RETURN, 0, 0, foreign),
        Instruction::new(LOAD, 0, 0, NUMBER),
    ];
    if cfg!(target_arch = "x86_64") {
        code.extend([Instruction::new(IF_AT_LEAST, 0, 1, X32), Instruction::new(RETURN, 0, 0, foreign)]);
    }
    search(ranges, &mut code);
    if code.len() > MOST { Err(format!("{} instructions are more than {MOST}", code.len())) } else { Ok(code) }
}

fn search(ranges: &[(u32, Vec<Instruction>)], code: &mut Vec<Instruction>) {
    let (below, above) = match ranges {
        [] => return,
        [(_, only)] => return code.extend(only),
        more => more.split_at(more.len() / 2),
    };
    let mut lower = Vec::new();
    search(below, &mut lower);
    let from = above[0].0;
    match u8::try_from(lower.len()) {
        Ok(over) => code.push(Instruction::new(IF_AT_LEAST, over, 0, from)),
        // Conditional jumps reach 255 instructions, others all.
        Err(_) => code.extend([Instruction::new(IF_AT_LEAST, 0, 1, from), Instruction::new(JUMP, 0, 0, lower.len() as u32)]),
    }
    code.append(&mut lower);
    search(above, code);
}
