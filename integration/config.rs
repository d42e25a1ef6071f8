//! A node that is described by its deployment.

use actix_hub::{HubConfig, StartHubError, prelude::*};

use crate::support::*;

fn config(variables: &[(&str, &str)]) -> HubConfig {
    let owned = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    HubConfig::from_variables("HUB_", owned).expect("all of it fits")
}

#[test]
fn what_the_deployment_says_counts_over_what_the_app_says() {
    run(async {
        let variables = [
            ("HUB_NAME", "shop"),
            ("HUB_NODE_NAME", "shop-0"),
            ("HUB_LISTEN", "127.0.0.1:0"),
            ("HUB_WORKERS", "1"),
            ("HUB_LABELS", "zone=b"),
            ("HUB_SETTINGS__HEARTBEAT", "100ms"),
        ];
        let builder = HubSystem::builder("test").node_name("a").child::<Counter>();
        let builder = builder.label("zone", "a").label("rack", "3");
        let hub = builder.config(config(&variables)).start().await.expect("the hub starts");
        assert_eq!((hub.name().as_str(), hub.node_name().as_str()), ("shop", "shop-0"));
        assert!(hub.addresses()[0].starts_with("/ip4/127.0.0.1/tcp/"), "{:?}", hub.addresses());
        assert_eq!(hub.nodes().await.expect("the hub runs")[0].labels.to_string(), "rack=3,zone=b");
        start(&hub, "c").await;
        hub.stop().await;
    });
}

#[test]
fn what_is_wrong_with_it_is_said_when_the_hub_starts() {
    run(async {
        let secret = "0f".repeat(32);
        for (variables, why) in [
            (vec![("HUB_SECRET_FILE", "/nowhere/secret")], "/nowhere/secret"),
            (vec![("HUB_SECRET", secret.as_str()), ("HUB_SECRET_FILE", "/nowhere")], "both"),
            (vec![("HUB_SETTINGS__HEARTBEAT", "1ms")], "50 ms to 60 s"),
            (vec![("HUB_LISTEN", "hub-0")], "no port"),
            (vec![("HUB_LISTEN", "0.0.0.0:0")], "who may join"),
        ] {
            let started = HubSystem::builder("test").config(config(&variables)).start().await;
            let error: StartHubError = started.expect_err(why);
            assert!(error.to_string().contains(why), "{error}");
        }
    });
}
