//! The bad-input corpus of `reliability.md` section 4 against real servers in this process. `tests/abuse/run` asks processes.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use support::target::How;

mod floors;
mod table;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_is_answered_as_the_table_says() {
    let (text, wrong) = table::run(&How::Here).await;
    assert_eq!(wrong, 0, "\n{text}");
}
