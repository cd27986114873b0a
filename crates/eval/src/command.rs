//! A run's command as others may read it.

/// The command without the places of the machine that it ran on: where the run lay is left out, where the data lay is left open, and of
/// other absolute paths the last part stays.
pub fn public_command(command: &str) -> String {
    let mut kept = Vec::new();
    let mut words = words_of(command).into_iter();
    while let Some(word) = words.next() {
        let (flag, joined) = match word.split_once('=') {
            Some((flag, _)) => (flag, true),
            None => (word.as_str(), false),
        };
        let place = ["--run-dir", "--data-dir"].contains(&flag);
        if place && !joined {
            words.next();
        }
        match flag {
            "--data-dir" => kept.push("--data-dir DIR".to_owned()),
            _ if place => {}
            _ => kept.push(last_part(&word)),
        }
    }
    kept.join(" ")
}

/// The words of a command as a shell reads them, quotes kept.
fn words_of(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in command.chars() {
        quoted ^= letter == '\'';
        match words.last_mut() {
            Some(word) if letter != ' ' || quoted => word.push(letter),
            _ => words.push(String::new()),
        }
    }
    words
}

/// A word whose absolute path, if it is one or ends in one (`--init=/a/b`), is cut to its last part.
fn last_part(word: &str) -> String {
    let (head, path) = word.split_at(word.rfind('=').map_or(0, |at| at + 1));
    let bare = path.trim_matches('\'');
    match bare.rsplit_once('/') {
        Some((_, last)) if bare.starts_with('/') => format!("{head}{last}"),
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_machine_is_left() {
        for (command, public) in [
            (
                "cargo xtask run-all --recipe quick --run-dir /home/me/runs/a --seed 1",
                "cargo xtask run-all --recipe quick --seed 1",
            ),
            (
                "cargo xtask run-all --data-dir=/home/me/c --run-dir='/home/me/my runs/a'",
                "cargo xtask run-all --data-dir DIR",
            ),
            (
                "cargo xtask run-all --recipe '/home/me/my recipes/best.toml' --init=/home/me/w.safetensors",
                "cargo xtask run-all --recipe best.toml --init=w.safetensors",
            ),
            (
                "cargo xtask run-all --set pretrain.epochs=3 --init hub:timm/resnet50",
                "cargo xtask run-all --set pretrain.epochs=3 --init hub:timm/resnet50",
            ),
        ] {
            assert_eq!(public_command(command), public);
        }
    }
}
