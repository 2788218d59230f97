//! The connectors that come with Segmenter: the files of `connectors/`.

/// A connector: its name, a description, and its spec in JSON.
pub struct Builtin {
    pub name: &'static str,
    pub description: &'static str,
    pub spec: &'static str,
}

pub const BUILTIN: [Builtin; 6] = [
    Builtin {
        name: "google",
        description: "Google Customer Match, through the Data Manager API",
        spec: include_str!("../../../connectors/google.json"),
    },
    Builtin {
        name: "meta",
        description: "Meta Custom Audiences, through the Marketing API",
        spec: include_str!("../../../connectors/meta.json"),
    },
    Builtin {
        name: "tiktok",
        description: "TikTok custom audiences, through the file API",
        spec: include_str!("../../../connectors/tiktok.json"),
    },
    Builtin {
        name: "vk",
        description: "VK Ads, user lists and segments",
        spec: include_str!("../../../connectors/vk.json"),
    },
    Builtin {
        name: "webhook",
        description: "any URL that takes messages as they are, signed as Standard Webhooks says",
        spec: include_str!("../../../connectors/webhook.json"),
    },
    Builtin {
        name: "yandex",
        description: "Yandex Audience, segments of CRM data",
        spec: include_str!("../../../connectors/yandex.json"),
    },
];
