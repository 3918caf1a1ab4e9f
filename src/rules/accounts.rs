//! Who a user of an image is: `User` of its configuration, looked up in the image's own passwd and group files (passwd(5),
//! group(5)), as docker-run(1) does.

use crate::model::job::User;

/// Ids that a cell has.
const ID_MOST: u32 = 65_535;

/// `name`, `uid`, `name:group`, `uid:gid` and their mixtures. Without a group it is the one of the passwd line, or 0.
///
/// # Errors
/// a sentence about the name that is not there, or the id that no cell has.
pub fn look_up(user: &str, passwd: &str, group: &str) -> Result<User, String> {
    let (who, of) = user.split_once(':').map_or((user, None), |(who, of)| (who, Some(of)));
    let line = passwd.lines().map(fields).find(|f| f.first() == Some(&who) || (f.get(2) == Some(&who) && number(who).is_some()));
    let uid = match number(who) {
        Some(uid) => uid,
        // Images without any such file exist, and root is root in all of them.
        None if line.is_none() && who == "root" => 0,
        None => line.as_ref().and_then(|f| number(f.get(2)?)).ok_or_else(|| format!("/etc/passwd has no user {who:?}"))?,
    };
    let gid = match of {
        None => line.and_then(|f| number(f.get(3)?)).unwrap_or(0),
        Some(of) => match number(of) {
            Some(gid) => gid,
            None => {
                let line = group.lines().map(fields).find(|f| f.first() == Some(&of));
                line.and_then(|f| number(f.get(2)?)).ok_or_else(|| format!("/etc/group has no group {of:?}"))?
            }
        },
    };
    match uid <= ID_MOST && gid <= ID_MOST {
        true => Ok(User { uid, gid }),
        false => Err(format!("{uid}:{gid} is beyond the ids 0 to {ID_MOST} that a cell has")),
    }
}

fn fields(line: &str) -> Vec<&str> {
    line.split(':').collect()
}

fn number(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_in_every_mixture() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:101:102::/:/bin/false\nbroken\n::\nbig:x:70000:0::/:\n";
        let group = "root:x:0:\nstaff:x:50:app\n";
        let at = |user: &str| look_up(user, passwd, group).map(|u| (u.uid, u.gid));
        for (user, ids) in [
            ("root", (0, 0)),
            ("app", (101, 102)),
            ("101", (101, 102)),
            ("7", (7, 0)),
            ("app:staff", (101, 50)),
            ("app:9", (101, 9)),
            ("7:staff", (7, 50)),
            ("0:0", (0, 0)),
        ] {
            assert_eq!(at(user), Ok(ids), "{user}");
        }
        assert_eq!(look_up("root", "", "").map(|u| (u.uid, u.gid)), Ok((0, 0)));
        for bad in ["nobody", "app:wheel", "big", "70000", "", ":", "app:", "99999999999"] {
            assert!(at(bad).is_err(), "{bad}");
        }
    }
}
