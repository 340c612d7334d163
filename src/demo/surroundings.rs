//! What the machine offers: model servers on their usual ports, providers' keys in the environment.

use crate::config::file::Model;
use crate::provider::KeyNeed;
use crate::provider::compatible::PROVIDERS;
use futures_util::future::join_all;
use serde::Deserialize;
use std::time::Duration;

/// A server that is there answers at once.
const PATIENCE: Duration = Duration::from_millis(300);
/// More models than anybody loads; the bound is against something else that listens there.
const MAX_MODELS: usize = 200;

/// Name, provider row, port of 127.0.0.1 and path.
const USUAL: &[(&str, &str, u16, &str)] = &[
    ("Ollama", "openai_like", 11434, "/v1"),
    ("LM Studio", "lm_studio", 1234, "/v1"),
    ("llama.cpp", "openai_like", 8080, "/v1"),
    ("vLLM", "hosted_vllm", 8000, "/v1"),
];

/// A model server that answered.
pub struct Server {
    pub name: &'static str,
    pub base: String,
    pub models: Vec<Model>,
}

#[derive(Deserialize)]
struct List {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    id: String,
}

/// Asks the usual ports for their models, all at once.
pub async fn servers(own_address: &str) -> Vec<Server> {
    let client = awc::Client::builder().timeout(PATIENCE).disable_redirects().finish();
    let asked = USUAL.iter().filter(|(_, _, port, _)| !own_address.ends_with(&format!(":{port}"))).map(
        |(name, provider, port, path)| {
            let base = format!("http://127.0.0.1:{port}{path}");
            let request = client.get(format!("{base}/models"));
            async move {
                let list = async { request.send().await.ok()?.json::<List>().await.ok() };
                let list = tokio::time::timeout(PATIENCE, list).await.ok()??;
                let models =
                    list.data.into_iter().take(MAX_MODELS).filter(|item| !item.id.is_empty() && !item.id.contains('*'));
                let models = models
                    .map(|item| Model {
                        model: format!("{provider}/{}", item.id),
                        name: item.id,
                        api_base: Some(base.clone()),
                        ..Model::default()
                    })
                    .collect();
                Some(Server { name, base: base.clone(), models })
            }
        },
    );
    join_all(asked).await.into_iter().flatten().filter(|server| !server.models.is_empty()).collect()
}

/// Providers whose key is in the environment, with the variable.
pub fn keys() -> Vec<(&'static str, &'static str)> {
    let set = |name: &&&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    PROVIDERS
        .iter()
        .filter(|provider| {
            provider.key == KeyNeed::Required && provider.base_url.is_some_and(|base| !base.contains('{'))
        })
        .filter_map(|provider| Some((provider.name, *provider.key_env.iter().find(set)?)))
        .collect()
}
