//! Search patterns of the catalog commands: `%` any characters, `_` one, `\` takes the next one
//! as it is. Names compare without case, as Databricks' do.

pub(crate) struct Pattern {
    parts: Vec<Part>,
    /// What the pattern would be if it meant itself.
    literal: String,
}

#[derive(PartialEq)]
enum Part {
    Any,
    One,
    Character(char),
}

impl Pattern {
    pub fn new(pattern: &str) -> Self {
        let mut parts = Vec::new();
        let lower = pattern.to_lowercase();
        let mut characters = lower.chars();
        while let Some(character) = characters.next() {
            parts.push(match character {
                '%' => Part::Any,
                '_' => Part::One,
                // At the very end it stands for itself.
                '\\' => Part::Character(characters.next().unwrap_or('\\')),
                other => Part::Character(other),
            });
        }
        Self { parts, literal: lower }
    }

    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.to_lowercase().chars().collect();
        // Greedy with one step back to the last `%`: linear memory, at most quadratic time.
        let (mut at_part, mut at_name) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while at_name < name.len() {
            match self.parts.get(at_part) {
                Some(Part::Any) => {
                    retry = Some((at_part, at_name));
                    at_part += 1;
                }
                Some(Part::One) => (at_part, at_name) = (at_part + 1, at_name + 1),
                Some(Part::Character(c)) if *c == name[at_name] => (at_part, at_name) = (at_part + 1, at_name + 1),
                _ => {
                    let Some((part, name_start)) = retry else { return false };
                    retry = Some((part, name_start + 1));
                    (at_part, at_name) = (part + 1, name_start + 1);
                }
            }
        }
        self.parts[at_part..].iter().all(|part| *part == Part::Any)
    }

    /// Whether the name is the pattern itself, wildcards taken as they are written: what a client
    /// means that looks up one table without escaping its `_`.
    pub fn is(&self, name: &str) -> bool {
        self.literal == name.to_lowercase()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_escapes_and_case() {
        for (pattern, name, expected) in [
            ("", "", true),
            ("", "a", false),
            ("%", "", true),
            ("%", "anything", true),
            ("a_c", "ABC", true),
            ("a_c", "ac", false),
            (r"a\_c", "a_c", true),
            (r"a\_c", "abc", false),
            (r"100\%", "100%", true),
            (r"a\\b", r"a\b", true),
            ("a\\", "a\\", true),
            ("%line%item%", "my_lineitems_2", true),
            ("%ab", "aaab", true),
            ("%ab", "aba", false),
            ("a%b%c", "axxbyyc", true),
            ("a%b%c", "axxcyyb", false),
            ("übe_", "ÜBER", true),
        ] {
            assert_eq!(Pattern::new(pattern).matches(name), expected, "{pattern} {name}");
        }
        assert!(Pattern::new("my_table").is("MY_TABLE"));
        assert!(!Pattern::new("my_table").is("myxtable"));
    }

    #[test]
    fn a_hostile_pattern_ends_soon() {
        let pattern = format!("{}b", "%a".repeat(200));
        assert!(!Pattern::new(&pattern).matches(&"a".repeat(5000)));
    }
}
