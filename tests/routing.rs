//! One name, several deployments: the caller does not notice which of them answered, nor which of them could not.

use crate::chat::HELLO;
use crate::stream::HELLO as STREAM;
use crate::support::reply::WHOLE;
use crate::support::upstream::refusing;
use crate::support::{Answer, Gateway, Reply, Step, Upstream, config, deployment, model};

fn attempted(answer: &Answer) -> (String, String) {
    let header = |name: &str| answer.header(name).unwrap();
    (header("x-litellm-attempted-retries"), header("x-litellm-attempted-fallbacks"))
}

#[test]
fn a_deployment_that_fails_before_its_first_byte_is_not_noticed() {
    let (_socket, refused) = refusing();
    let faults = [
        Reply::error(500, "server_error", None, "down"),
        Reply::error(503, "server_error", None, "loading"),
        Reply::error(429, "rate_limit_error", None, "slow down"),
        Reply::error(401, "invalid_request_error", None, "no such key"),
        Reply::json(200, "nothing that makes sense"),
        Reply(vec![Step::Close]),
        Reply(vec![Step::Reset]),
    ];
    let bad = faults.map(|fault| Upstream::new(fault).base().to_owned());
    for bad in bad.into_iter().chain([format!("http://{refused}/v1")]) {
        let good = Upstream::script(|seen| match seen.json()["stream"] == true {
            true => Reply::texts(&["Hi"]),
            false => Reply::whole(),
        });
        let gateway =
            Gateway::start(&config("", &[deployment("small", "openai/small-up", &bad), model("small", &good)]));
        let answers: Vec<Answer> = [HELLO, HELLO, STREAM, STREAM].iter().map(|body| gateway.chat(body).ok()).collect();
        assert_eq!(answers[0].text(), WHOLE);
        let retries: usize = answers.iter().map(|a| attempted(a).0.parse::<usize>().unwrap()).sum();
        assert!(retries >= 1, "the bad one was never tried");
        let calls = gateway.wait_calls(4);
        assert!(calls.iter().all(|call| call["outcome"] == "success"), "{calls:#?}");
    }
}
