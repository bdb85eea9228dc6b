//! Clauses about job records: who may write what came of a job. They must not know how a log is kept.

use clarion_engine::model::FinalState;
use clarion_engine::store::{ClaimAnswer, ClaimRequest, CommitAnswer, Error, Settlement, Writer};
use uuid::Uuid;

use crate::contract;
use crate::place::{
    ME, NOW, OTHER, PROCESS, Place, all_accepted, first_job, notification, part, settlement,
    waiting_row,
};

contract!(
    a_part_is_taken_once_and_a_foreign_one_in_its_place_is_fenced,
    the_same_commit_again_is_taken_and_counts_once,
    a_fenced_one_leaves_no_trace_and_the_others_commit,
    nothing_is_taken_after_the_end_or_across_a_gap,
    a_claim_reads_what_is_settled_and_fences_the_holder,
    a_live_claim_is_held_and_a_lapsed_one_is_not,
    a_claim_of_another_process_holds_unless_it_is_proven_dead,
    a_job_id_with_other_recipients_is_told,
    two_parts_of_one_job_may_stand_in_one_group,
    a_group_that_fails_for_its_data_leaves_nothing,
    what_was_committed_is_there_after_a_crash,
);

async fn a_part_is_taken_once_and_a_foreign_one_in_its_place_is_fenced(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let job = first_job(&notification(&acme, 1), 0, 4);
    let mine = Settlement {
        part: part(0, &[(0, 0)], FinalState::Accepted, false),
        ..settlement(&job)
    };
    assert_eq!(
        store.commit(ME, &[mine], NOW).await.unwrap(),
        [CommitAnswer::Taken]
    );
    let theirs = Settlement {
        part: part(0, &[(0, 0), (1, 0)], FinalState::Accepted, false),
        ..settlement(&job)
    };
    assert_eq!(
        store.commit(OTHER, &[theirs], NOW).await.unwrap(),
        [CommitAnswer::Fenced]
    );
    let next = Settlement {
        part: part(1, &[(1, 0)], FinalState::Accepted, true),
        ..settlement(&job)
    };
    assert_eq!(
        store.commit(ME, &[next], NOW).await.unwrap(),
        [CommitAnswer::Taken]
    );
    let status = store
        .notification_status(&acme, job.notification.id)
        .await
        .unwrap();
    assert_eq!(status.unwrap().counts.total(), 2);
}

async fn the_same_commit_again_is_taken_and_counts_once(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let job = first_job(&notification(&acme, 1), 0, 4);
    let settled = Settlement {
        waiting: vec![waiting_row(&acme, job.notification.id, 5)],
        ..all_accepted(&job)
    };
    for _ in 0..2 {
        let answer = store
            .commit(ME, std::slice::from_ref(&settled), NOW)
            .await
            .unwrap();
        assert_eq!(answer, [CommitAnswer::Taken]);
    }
    let status = store
        .notification_status(&acme, job.notification.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((status.counts.total(), status.waiting), (4, 3));
    // Another part in that place is not the same commit.
    let fewer = Settlement {
        part: part(0, &[(0, 0)], FinalState::Accepted, true),
        ..settlement(&job)
    };
    assert_eq!(
        store.commit(ME, &[fewer], NOW).await.unwrap(),
        [CommitAnswer::Fenced]
    );
}

async fn a_fenced_one_leaves_no_trace_and_the_others_commit(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let (one, two) = (
        first_job(&notification(&acme, 1), 0, 4),
        first_job(&notification(&acme, 2), 0, 4),
    );
    store
        .commit(OTHER, &[all_accepted(&one)], NOW)
        .await
        .unwrap();
    let late = Settlement {
        part: part(0, &[(0, 0)], FinalState::Rejected, true),
        waiting: vec![waiting_row(&acme, one.notification.id, 5)],
        ..settlement(&one)
    };
    let group = [late, all_accepted(&two)];
    let answers = store.commit(ME, &group, NOW).await.unwrap();
    assert_eq!(answers, [CommitAnswer::Fenced, CommitAnswer::Taken]);
    assert_eq!(store.next_due().await.unwrap(), None);
    let status = store
        .notification_status(&acme, one.notification.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.counts.get(FinalState::Rejected), 0);
    assert!(
        store
            .notification_status(&acme, two.notification.id)
            .await
            .unwrap()
            .is_some()
    );
}

async fn nothing_is_taken_after_the_end_or_across_a_gap(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let job = first_job(&notification(&acme, 1), 0, 4);
    let at = |seq| Settlement {
        part: part(seq, &[(3, 0)], FinalState::Accepted, false),
        ..settlement(&job)
    };
    assert_eq!(
        store.commit(ME, &[at(1)], NOW).await.unwrap(),
        [CommitAnswer::Fenced]
    );
    store.commit(ME, &[all_accepted(&job)], NOW).await.unwrap();
    for seq in [1, 2] {
        let answer = store.commit(ME, &[at(seq)], NOW).await.unwrap();
        assert_eq!(answer, [CommitAnswer::Fenced], "after the end, at {seq}");
    }
}

fn granted(answer: &ClaimAnswer) -> (u32, Vec<(u32, i64)>, u32) {
    match answer {
        ClaimAnswer::Granted {
            next_seq,
            settled,
            claims_without_progress,
        } => (*next_seq, settled.clone(), *claims_without_progress),
        other => panic!("not granted: {other:?}"),
    }
}

fn request(settlement: &Settlement) -> ClaimRequest {
    ClaimRequest {
        key: settlement.key.clone(),
        digest: settlement.digest,
    }
}

async fn a_claim_reads_what_is_settled_and_fences_the_holder(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let job = first_job(&notification(&acme, 1), 0, 4);
    let sent = Settlement {
        part: part(0, &[(1, 5), (0, 9)], FinalState::Accepted, false),
        ..settlement(&job)
    };
    store
        .commit(OTHER, std::slice::from_ref(&sent), NOW)
        .await
        .unwrap();
    let fresh = settlement(&first_job(&notification(&acme, 2), 0, 1));
    let asked = [request(&sent), request(&fresh)];
    let late = NOW + 20_000;
    let answers = store.claim(ME, &asked, late).await.unwrap();
    assert_eq!(granted(&answers[0]), (2, vec![(0, 9), (1, 5)], 1));
    assert_eq!(granted(&answers[1]), (1, vec![], 1));
    // Asked again by its holder, it is granted again and not counted again.
    assert_eq!(store.claim(ME, &asked, late).await.unwrap(), answers);
    let stalled = Settlement {
        part: part(1, &[(2, 0)], FinalState::Accepted, false),
        ..settlement(&job)
    };
    let answer = store.commit(OTHER, &[stalled], late).await.unwrap();
    assert_eq!(answer, [CommitAnswer::Fenced]);
    let mine = Settlement {
        part: part(2, &[(2, 0)], FinalState::Accepted, true),
        ..settlement(&job)
    };
    assert_eq!(
        store.commit(ME, &[mine], late).await.unwrap(),
        [CommitAnswer::Taken]
    );
    let answers = store.claim(OTHER, &asked[..1], late).await.unwrap();
    assert_eq!(answers, [ClaimAnswer::Ended]);
}

async fn a_live_claim_is_held_and_a_lapsed_one_is_not(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let asked = [request(&settlement(&first_job(
        &notification(&acme, 1),
        0,
        4,
    )))];
    store.claim(OTHER, &asked, NOW).await.unwrap();
    let early = store.claim(ME, &asked, NOW + 19_999).await.unwrap();
    assert_eq!(early, [ClaimAnswer::Held]);
    for (claims, writer) in [(2, ME), (3, OTHER), (4, ME), (5, OTHER)] {
        let now = NOW + 20_000 * i64::from(claims);
        let answers = store.claim(writer, &asked, now).await.unwrap();
        assert_eq!(granted(&answers[0]), (claims, vec![], claims));
    }
}

async fn a_claim_of_another_process_holds_unless_it_is_proven_dead(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let asked = [request(&settlement(&first_job(
        &notification(&acme, 1),
        0,
        4,
    )))];
    store.claim(ME, &asked, NOW).await.unwrap();
    drop(store);
    let next = Uuid::from_u128(2);
    assert_ne!(next, PROCESS);
    let reopened = place.open_as(next).await;
    let writer = Writer {
        process: next,
        generation: 1,
    };
    let soon = reopened.claim(writer, &asked, NOW + 1).await.unwrap();
    if place.is_of_one_process() {
        assert_eq!(granted(&soon[0]), (2, vec![], 2));
        return;
    }
    assert_eq!(soon, [ClaimAnswer::Held]);
    let lapsed = reopened.claim(writer, &asked, NOW + 20_000).await.unwrap();
    assert_eq!(granted(&lapsed[0]), (2, vec![], 2));
}

async fn a_job_id_with_other_recipients_is_told(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let job = first_job(&notification(&acme, 1), 0, 4);
    store.commit(ME, &[all_accepted(&job)], NOW).await.unwrap();
    let mut foreign = request(&settlement(&job));
    foreign.digest = [9; 32];
    let answers = store.claim(ME, &[foreign], NOW).await.unwrap();
    assert_eq!(answers, [ClaimAnswer::IdReused]);
}

async fn two_parts_of_one_job_may_stand_in_one_group(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let job = first_job(&notification(&acme, 1), 0, 3);
    let at = |seq: u32, end| Settlement {
        part: part(seq, &[(seq, 0)], FinalState::Accepted, end),
        ..settlement(&job)
    };
    let group = [at(0, false), at(1, false), at(2, true)];
    let answers = store.commit(ME, &group, NOW).await.unwrap();
    assert_eq!(answers, [CommitAnswer::Taken; 3]);
    let status = store
        .notification_status(&acme, job.notification.id)
        .await
        .unwrap();
    assert_eq!(status.unwrap().counts.total(), 3);
}

async fn a_group_that_fails_for_its_data_leaves_nothing(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let jobs = [1, 2].map(|n| first_job(&notification(&acme, n), 0, 3));
    // Two jobs that leave behind the same job: an id that nobody may use twice.
    let group = jobs.clone().map(|job| Settlement {
        waiting: vec![waiting_row(&acme, job.notification.id, 5)],
        ..all_accepted(&job)
    });
    let refused = store.commit(ME, &group, NOW).await;
    assert!(matches!(refused, Err(Error::Data(_))), "{refused:?}");
    for job in &jobs {
        let status = store
            .notification_status(&acme, job.notification.id)
            .await
            .unwrap();
        assert_eq!(status, None);
    }
    let one_by_one = store.commit(ME, &group[..1], NOW).await.unwrap();
    assert_eq!(one_by_one, [CommitAnswer::Taken]);
    assert!(matches!(
        store.commit(ME, &group[1..], NOW).await,
        Err(Error::Data(_))
    ));
}

async fn what_was_committed_is_there_after_a_crash(place: Place) {
    let (store, acme) = place.with_tenant().await;
    let job = first_job(&notification(&acme, 1), 0, 3);
    store.commit(ME, &[all_accepted(&job)], NOW).await.unwrap();
    // Opened beside the first, which never closed: what another process finds after a kill.
    let reopened = place.open().await;
    let asked = [request(&settlement(&job))];
    let answers = reopened.claim(OTHER, &asked, NOW).await.unwrap();
    assert_eq!(answers, [ClaimAnswer::Ended]);
    drop(store);
}
