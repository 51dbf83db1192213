//! The server on loopback: many clients at once, limits, the script.

use crate::bare::Client;
use crate::link::contents;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use vmcore_pipeline::serve::{Event, Outcome, Record, ServeConfig, Server};

pub(crate) fn config(directory: &Path) -> ServeConfig {
    let mut config = ServeConfig::new(directory);
    config.addresses = vec!["127.0.0.1:0".parse().unwrap()];
    config.limits.free_bytes = 0;
    config.clients_per_host = 256;
    config
}

/// Runs a server while `work` talks to it; returns what happened.
pub(crate) fn serve(config: ServeConfig, work: impl FnOnce(&[SocketAddr]) + Send) -> Vec<Event> {
    let server = Server::bind(config).unwrap();
    let stop = AtomicBool::new(false);
    let events = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let running =
            scope.spawn(|| server.run(&stop, &|event| events.lock().unwrap().push(event)));
        // The server ends even if the work panics.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            work(&server.addresses());
        }));
        stop.store(true, Ordering::Relaxed);
        running.join().unwrap().unwrap();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
    events.into_inner().unwrap()
}

fn records(events: &[Event]) -> impl Iterator<Item = &Record> {
    events.iter().filter_map(|event| match event {
        Event::Ended(record) => Some(&**record),
        _ => None,
    })
}

pub(crate) fn outcomes(events: &[Event]) -> Vec<Outcome> {
    records(events).map(|record| record.outcome).collect()
}

#[test]
fn a_hundred_clients_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.addresses.push("127.0.0.1:0".parse().unwrap());
    let events = serve(config, |servers| {
        std::thread::scope(|scope| {
            for number in 0..100u64 {
                let server = servers[number as usize % servers.len()];
                scope.spawn(move || {
                    let bytes = contents((100 + number as usize) << 12, number);
                    let mut client = Client::open(server, &[]).expect("the server answers");
                    assert!(client.dump(&bytes), "client {number}");
                });
            }
        });
    });
    assert_eq!(outcomes(&events), [Outcome::Complete; 100]);
    let mut found = Vec::new();
    for number in 0..100 {
        let file = dir.path().join(format!("vmcore.127.0.0.1.{number}"));
        found.push(std::fs::read(file).unwrap());
    }
    for number in 0..100u64 {
        let bytes = contents((100 + number as usize) << 12, number);
        assert!(found.contains(&bytes), "the dump of client {number}");
    }
}

#[test]
fn limits_hold() {
    let dir = tempfile::tempdir().unwrap();
    let mut small = config(dir.path());
    small.limits.dump_bytes = 100_000;
    small.clients_per_host = 2;
    let events = serve(small, |servers| {
        let mut first = Client::open(servers[0], &[]).unwrap();
        let _second = Client::open(servers[0], &[]).unwrap();
        assert!(Client::open(servers[0], &[]).is_none(), "a third");
        assert!(first.send(3, 0, &contents(64 << 10, 1)));
        assert!(!first.send(3, 64 << 10, &contents(64 << 10, 1)));
    });
    assert_eq!(outcomes(&events), [Outcome::LimitExceeded]);
    let incomplete = dir.path().join("vmcore.127.0.0.1.0.incomplete");
    assert!(std::fs::metadata(incomplete).unwrap().len() <= 100_000);

    let mut full = config(dir.path());
    full.limits.free_bytes = u64::MAX / 2;
    let events = serve(full, |servers| {
        let mut client = Client::open(servers[0], &[]).unwrap();
        assert!(!client.send(3, 0, &[1; 4096]));
    });
    assert!(outcomes(&events).is_empty(), "{events:?}");
    let failed = |event: &Event| matches!(event, Event::Failed(_, why) if why.contains("free"));
    assert!(events.iter().any(failed), "{events:?}");

    let mut few = config(dir.path());
    few.clients = 1;
    let events = serve(few, |servers| {
        let mut first = Client::open(servers[0], &[]).unwrap();
        assert!(Client::open(servers[0], &[]).is_none(), "a second");
        assert!(first.dump(&contents(8 << 12, 5)), "the first goes on");
    });
    let refused =
        |event: &Event| matches!(event, Event::Refused { why, .. } if why.contains("many"));
    assert!(events.iter().any(refused), "{events:?}");
}

#[test]
fn only_allowed_hosts_are_answered() {
    for (networks, is_allowed) in [
        (vec!["192.0.2.0/24"], false),
        (vec!["192.0.2.0/24", "127.0.0.1"], true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        config.allowed = networks.iter().map(|text| text.parse().unwrap()).collect();
        let events = serve(config, |servers| {
            assert_eq!(Client::open(servers[0], &[]).is_some(), is_allowed);
        });
        let is_refusal = matches!(events[0], Event::Refused { .. });
        assert_eq!(is_refusal, !is_allowed, "{events:?}");
    }
}

#[test]
fn a_client_is_not_faster_than_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.bytes_per_second = Some(100_000);
    let events = serve(config, |servers| {
        let mut client = Client::open(servers[0], &[]).unwrap();
        assert!(client.dump(&contents(300_000, 5)));
    });
    let record = records(&events).next().unwrap();
    assert_eq!(record.outcome, Outcome::Complete);
    // A slow machine takes longer, never shorter; the clock of records has whole seconds.
    assert!(record.ended.unwrap() - record.began >= 2, "{record:?}");
}

#[test]
fn a_client_that_falls_silent_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.silence = std::time::Duration::from_millis(300);
    let events = serve(config, |servers| {
        let mut client = Client::open(servers[0], &[]).unwrap();
        assert!(client.send(3, 0, &contents(64 << 10, 5)));
        // The record says so at last: the server goes on meanwhile.
        let record = dir.path().join("record.127.0.0.1.0.json");
        while !std::fs::read_to_string(&record).is_ok_and(|text| text.contains("timed_out")) {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    assert_eq!(outcomes(&events), [Outcome::TimedOut]);
    let core = std::fs::read(dir.path().join("vmcore.127.0.0.1.0.incomplete")).unwrap();
    assert!(core == contents(64 << 10, 5));
}

#[cfg(unix)]
#[test]
fn the_script_learns_what_became_of_a_dump() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    std::fs::write(&script, "#!/bin/sh\necho \"$@\" >> said\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(dir.path().join("below")).unwrap();
    let mut config = config(dir.path());
    config.script = Some(script);
    let events = serve(config, |servers| {
        let mut client = Client::open(servers[0], b"below\0").unwrap();
        assert!(client.dump(&contents(8 << 12, 5)));
        let mut client = Client::open(servers[0], b"../below\0").unwrap();
        assert!(client.send(3, 0, &[1; 4096]));
    });
    assert_eq!(outcomes(&events).len(), 2, "{events:?}");
    let said = std::fs::read_to_string(dir.path().join("below/said")).unwrap();
    assert_eq!(
        said,
        "success 127.0.0.1 127.0.0.1 info.127.0.0.1.0 vmcore.127.0.0.1.0\n"
    );
    let said = std::fs::read_to_string(dir.path().join("said")).unwrap();
    assert_eq!(
        said,
        "timeout 127.0.0.1 127.0.0.1 info.127.0.0.1.0 vmcore.127.0.0.1.0.incomplete\n"
    );
}

/// Where there are no threads for clients, the listener goes on.
#[test]
fn a_client_without_a_thread_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.stack_bytes = 1 << 46;
    config.clients_per_host = 2;
    let events = serve(config, |servers| {
        for _ in 0..3 {
            assert!(Client::open(servers[0], &[]).is_none());
        }
    });
    let refusals: Vec<&str> = events
        .iter()
        .map(|event| match event {
            Event::Refused { why, .. } => *why,
            other => panic!("{other:?}"),
        })
        .collect();
    // A client that was refused no longer counts.
    assert!(refusals.len() > 1, "{refusals:?}");
    assert!(
        refusals.iter().all(|why| *why == "no thread for it"),
        "{refusals:?}"
    );
}

/// A client counts until its script has ended.
#[cfg(unix)]
#[test]
fn no_more_scripts_run_than_clients_are_allowed() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    let text = "#!/bin/sh\n/bin/echo + >> said\n/bin/sleep 1\n/bin/echo - >> said\n";
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut config = config(dir.path());
    config.script = Some(script);
    config.clients = 2;
    let events = serve(config, |servers| {
        std::thread::scope(|scope| {
            for number in 0..6 {
                scope.spawn(move || {
                    if let Some(mut client) = Client::open(servers[0], &[]) {
                        client.dump(&contents(8 << 12, number));
                    }
                });
            }
        });
    });
    assert!(outcomes(&events).len() >= 2, "{events:?}");
    let said = std::fs::read_to_string(dir.path().join("said")).unwrap();
    let mut running = 0;
    for word in said.lines() {
        running += if word == "+" { 1 } else { -1 };
        assert!((0..=2).contains(&running), "{said}");
    }
    assert_eq!(said.lines().count(), 2 * outcomes(&events).len());
}

#[test]
fn refusals_are_counted_and_not_all_reported() {
    const HERALDS: u64 = 3000;
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.allowed = vec!["192.0.2.0/24".parse().unwrap()];
    let events = serve(config, |servers| {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for number in 0..HERALDS {
            let herald = crate::bare::message(1, number as u32, 0, &[]);
            socket.send_to(&herald, servers[0]).unwrap();
            // Not faster than they are taken.
            if number % 50 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
        // One that is reported, with those before it.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert!(Client::open(servers[0], &[]).is_none());
    });
    let mut told = 0;
    for event in &events {
        let Event::Refused { unreported, .. } = event else {
            panic!("{event:?}");
        };
        told += 1 + unreported;
    }
    assert!(events.len() > 1 && events.len() < 100, "{}", events.len());
    assert!(told > HERALDS / 2, "{told}");
}
