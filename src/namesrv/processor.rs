//! The name server's requests: takes headers and bodies apart, asks the bookkeeping, puts answers together. Knows codes and
//! remarks; keeps nothing.

use std::{sync::Arc, time::Duration};

use super::{NameServer, files::Which, kv::ORDER_TOPIC_CONFIG, routes::Registration};
use crate::{
    model::settings::{KeyError, Settings, Source, file},
    protocol::{
        body::{
            Body, BrokerMemberGroupAnswer, DataVersion, RegisterBrokerBody, TopicList, TopicRouteData, registration_crc,
        },
        code::{request as code, response},
        command::Response,
        header::{self, HeaderError},
    },
    remoting::{Answer, Processor, Request},
};

/// What is served beside GET_ROUTEINFO_BY_TOPIC, which has a lane of its own.
pub(super) const CODES: &[i32] = &[
    code::PUT_KV_CONFIG,
    code::GET_KV_CONFIG,
    code::DELETE_KV_CONFIG,
    code::GET_KVLIST_BY_NAMESPACE,
    code::REGISTER_BROKER,
    code::UNREGISTER_BROKER,
    code::QUERY_DATA_VERSION,
    code::BROKER_HEARTBEAT,
    code::GET_BROKER_CLUSTER_INFO,
    code::GET_BROKER_MEMBER_GROUP,
    code::WIPE_WRITE_PERM_OF_BROKER,
    code::ADD_WRITE_PERM_OF_BROKER,
    code::GET_ALL_TOPIC_LIST_FROM_NAMESERVER,
    code::DELETE_TOPIC_IN_NAMESRV,
    code::REGISTER_TOPIC_IN_NAMESRV,
    code::GET_TOPICS_BY_CLUSTER,
    code::GET_SYSTEM_TOPIC_LIST_FROM_NS,
    code::GET_UNIT_TOPIC_LIST,
    code::GET_HAS_UNIT_SUB_TOPIC_LIST,
    code::GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST,
    code::UPDATE_NAMESRV_CONFIG,
    code::GET_NAMESRV_CONFIG,
];

/// Ends remarks that send people to the documentation.
const FAQ: &str = "\nSee http://rocketmq.apache.org/docs/faq/ for further details.";
/// From V4_9_4 on askers read standard JSON and get it.
const VERSION_WITH_STANDARD_JSON: i32 = 401;
/// Keys that 318 must not change: a wrong path would be found out at the next start only.
const PATHS: [&str; 2] = ["kvConfigPath", "configStorePath"];

pub(super) struct NameServerProcessor {
    server: Arc<NameServer>,
}

impl Processor for NameServerProcessor {
    fn process(&self, request: &Request<'_>) -> Answer {
        self.answer(request).unwrap_or_else(|refused| Answer::Now(Response::error(refused.code, refused.remark)))
    }
}

/// An answer that is no success.
struct Refused {
    code: i32,
    remark: String,
}

impl Refused {
    fn new(code: i32, remark: impl Into<String>) -> Self {
        Refused { code, remark: remark.into() }
    }
}

impl From<HeaderError> for Refused {
    fn from(error: HeaderError) -> Self {
        Refused::new(response::SYSTEM_ERROR, error.to_string())
    }
}

/// Any other error says in its text what is wrong.
fn refused(error: impl std::error::Error) -> Refused {
    Refused::new(response::SYSTEM_ERROR, error.to_string())
}

/// As Java shows what is missing.
fn shown(value: Option<&str>) -> &str {
    value.unwrap_or("null")
}

fn success(body: Vec<u8>) -> Answer {
    Answer::Now(Response::success().with_body(body))
}

impl NameServerProcessor {
    pub(super) fn new(server: Arc<NameServer>) -> Self {
        NameServerProcessor { server }
    }

    fn answer(&self, request: &Request<'_>) -> Result<Answer, Refused> {
        match request.command.code {
            code::GET_ROUTEINFO_BY_TOPIC => self.route(request),
            code::REGISTER_BROKER => self.register(request),
            code::UNREGISTER_BROKER => self.unregister(request),
            code::QUERY_DATA_VERSION => self.data_version(request),
            code::BROKER_HEARTBEAT => self.heartbeat(request),
            code::GET_BROKER_CLUSTER_INFO => Ok(success(self.server.state().routes.cluster_info().encode())),
            code::GET_BROKER_MEMBER_GROUP => self.member_group(request),
            code::PUT_KV_CONFIG => self.put_kv(request),
            code::GET_KV_CONFIG => self.get_kv(request),
            code::DELETE_KV_CONFIG => self.delete_kv(request),
            code::GET_KVLIST_BY_NAMESPACE => self.list_kv(request),
            code::WIPE_WRITE_PERM_OF_BROKER => self.set_writable(request, false),
            code::ADD_WRITE_PERM_OF_BROKER => self.set_writable(request, true),
            code::DELETE_TOPIC_IN_NAMESRV => self.delete_topic(request),
            code::REGISTER_TOPIC_IN_NAMESRV => self.register_topic(request),
            code::UPDATE_NAMESRV_CONFIG => self.update_config(request),
            code::GET_NAMESRV_CONFIG => Ok(self.config()),
            other => self.topics(request, other),
        }
    }

    fn now(&self) -> Duration {
        self.server.env.clock.monotonic()
    }

    fn route(&self, request: &Request<'_>) -> Result<Answer, Refused> {
        let header = header::GetRouteInfo::decode(&request.command.fields)?;
        let state = self.server.state();
        let Some(mut route) = header.topic.and_then(|topic| state.routes.route(topic)) else {
            let remark = format!("No topic route info in name server for the topic: {}{FAQ}", shown(header.topic));
            return Err(Refused::new(response::TOPIC_NOT_EXIST, remark));
        };
        if state.config.order_message_enable {
            route.order_topic_conf =
                header.topic.and_then(|topic| state.kv.get(ORDER_TOPIC_CONFIG, topic)).map(str::to_owned);
        }
        drop(state);
        let is_standard = header.accept_standard_json_only || request.command.version >= VERSION_WITH_STANDARD_JSON;
        Ok(success(if is_standard { route.encode_standard() } else { route.encode() }))
    }

    fn register(&self, request: &Request<'_>) -> Result<Answer, Refused> {
        let header = header::RegisterBroker::decode(&request.command.fields)?;
        let there = |name: &str, value: Option<&'_ str>| match value {
            Some(value) if !value.trim().is_empty() => Ok(value.to_owned()),
            _ => Err(Refused::new(response::SYSTEM_ERROR, format!("a broker cannot register without its {name}"))),
        };
        let broker_name = there("brokerName", header.broker_name)?;
        let broker_addr = there("brokerAddr", header.broker_addr)?;
        let cluster = there("clusterName", header.cluster_name)?;
        let bytes = request.command.body;
        if header.body_crc32.is_some_and(|crc| crc != 0 && crc != registration_crc(bytes)) {
            return Err(Refused::new(response::SYSTEM_ERROR, "crc32 not match"));
        }
        let body = RegisterBrokerBody::decode_registration(bytes, header.compressed, request.command.version)
            .map_err(refused)?;

        let mut state = self.server.state();
        let expires_ms = match header.heartbeat_timeout_millis {
            Some(ms) if ms > 0 => ms as u64,
            _ => state.config.broker_expired_ms,
        };
        let registration = Registration {
            cluster: &cluster,
            broker_name: &broker_name,
            broker_addr: &broker_addr,
            broker_id: header.broker_id,
            ha_server_addr: header.ha_server_addr.unwrap_or_default(),
            expires_after: Duration::from_millis(expires_ms),
            enable_acting_master: header.enable_acting_master,
            body: &body,
            is_complete: state.config.delete_topic_with_broker_registration,
            channel: request.channel.id(),
        };
        let registered = state.routes.register(&registration, self.now()).map_err(refused)?;
        if state.channels.insert(request.channel.id(), request.channel.clone()).is_none() {
            tracing::info!(broker_name, broker_addr, cluster, broker_id = header.broker_id, "broker registered");
        }
        let order =
            state.config.return_order_topic_config_to_broker.then(|| state.kv.list(ORDER_TOPIC_CONFIG)).flatten();
        drop(state);

        let mut response = Response::success();
        if let Some(addr) = registered.ha_server_addr {
            response = response.with("haServerAddr", addr);
        }
        if let Some(addr) = registered.master_addr {
            response = response.with("masterAddr", addr);
        }
        if let Some(order) = order {
            response = response.with_body(order.encode());
        }
        Ok(Answer::Now(response))
    }

    fn unregister(&self, request: &Request<'_>) -> Result<Answer, Refused> {
        let header = header::BrokerIdentity::decode(&request.command.fields)?;
        let gone = self.server.state().routes.unregister(header.cluster_name, header.broker_addr);
        if let Some(gone) = gone {
            tracing::info!(broker_name = gone.broker_name, broker_addr = gone.broker_addr, "broker unregistered");
        }
        Ok(Answer::Now(Response::success()))
    }

    fn data_version(&self, request: &Request<'_>) -> Result<Answer, Refused> {
        let header = header::QueryDataVersion::decode(&request.command.fields)?;
        let asked = DataVersion::decode(request.command.body).map_err(refused)?;
        let now = self.now();
        let held = self.server.state().routes.data_version(header.cluster_name, header.broker_addr, &asked, now);
        let mut response = Response::success().with("changed", held.as_ref() != Some(&asked));
        if let Some(version) = held {
            response = response.with_body(version.encode());
        }
        Ok(Answer::Now(response))
    }

    fn heartbeat(&self, request: &Request<'_>) -> Result<Answer, Refused> {
        let header = header::BrokerHeartbeat::decode(&request.command.fields)?;
        let now = self.now();
        self.server.state().routes.heard(header.cluster_name, header.broker_addr, now);
        Ok(Answer::Now(Response::success()))
    }

    fn member_group(&self, request: &Request<'_>) -> Result<Answer, Refused> {
        let header = header::GetBrokerMemberGroup::decode(&request.command.fields)?;
        let group = self.server.state().routes.member_group(header.cluster_name, header.broker_name);
        Ok(success(BrokerMemberGroupAnswer { broker_member_group: group }.encode()))
    }

    fn put_kv(&self, request: &Request<'_>) -> Result<Answer, Refused> {
        let header = header::PutKvConfig::decode(&request.command.fields)?;
        match header.value {
            Some(value) => self.server.state().kv.put(header.namespace, header.key, value).map_err(refused)?,
            // RocketMQ keeps null, which is found by nobody.
            None => _ = self.server.state().kv.delete(header.namespace, header.key),
        }
        Ok(self.written(Which::Kv))
    }

    fn get_kv(&self, request: &Request<'_>) -> Result<Answer, Refused> {
        let header = header::KvKey::decode(&request.command.fields)?;
        let state = self.server.state();
        match header.namespace.zip(header.key).and_then(|(namespace, key)| state.kv.get(namespace, key)) {
            Some(value) => Ok(Answer::Now(Response::success().with("value", value.to_owned()))),
            None => Err(Refused::new(
                response::QUERY_NOT_FOUND,
                format!("No config item, Namespace: {} Key: {}", shown(header.namespace), shown(header.key)),
            )),
        }
    }

    fn delete_kv(&self, request: &Request<'_>) -> Result<Answer, Refused> {
        let header = header::KvKey::decode(&request.command.fields)?;
        let named = header.namespace.zip(header.key);
        let was_there = named.is_some_and(|(namespace, key)| self.server.state().kv.delete(namespace, key));
        Ok(if was_there { self.written(Which::Kv) } else { Answer::Now(Response::success()) })
    }

    fn list_kv(&self, request: &Request<'_>) -> Result<Answer, Refused> {
        let header = header::KvNamespace::decode(&request.command.fields)?;
        match header.namespace.and_then(|namespace| self.server.state().kv.list(namespace)) {
            Some(list) => Ok(success(list.encode())),
            None => {
                let remark = format!("No config item, Namespace: {}", shown(header.namespace));
                Err(Refused::new(response::QUERY_NOT_FOUND, remark))
            }
        }
    }

    /// The answer once the file is written.
    fn written(&self, which: Which) -> Answer {
        let files = self.server.files.lock().expect("nothing panics while it is held");
        let Some(files) = files.as_ref() else {
            return Answer::Now(Response::error(response::SYSTEM_ERROR, "the name server is stopping"));
        };
        let written = files.write(which);
        Answer::Later(Box::pin(async move {
            Some(match written.await {
                Ok(()) => Response::success(),
                Err(error) => {
                    Response::error(response::SYSTEM_ERROR, format!("changed until the next restart only: {error}"))
                }
            })
        }))
    }

    fn set_writable(&self, request: &Request<'_>, is_writable: bool) -> Result<Answer, Refused> {
        let header = header::BrokerName::decode(&request.command.fields)?;
        let name = header.broker_name;
        let topics = name.map_or(0, |name| self.server.state().routes.set_writable(name, is_writable));
        let field = if is_writable { "addTopicCount" } else { "wipeTopicCount" };
        tracing::info!(broker_name = header.broker_name, topics, is_writable, "write permissions changed");
        Ok(Answer::Now(Response::success().with(field, topics as i64)))
    }

    fn delete_topic(&self, request: &Request<'_>) -> Result<Answer, Refused> {
        let header = header::DeleteTopicInNameServer::decode(&request.command.fields)?;
        if let Some(topic) = header.topic {
            self.server.state().routes.delete_topic(topic, header.cluster_name);
        }
        Ok(Answer::Now(Response::success()))
    }

    fn register_topic(&self, request: &Request<'_>) -> Result<Answer, Refused> {
        let header = header::Topic::decode(&request.command.fields)?;
        let route = TopicRouteData::decode(request.command.body).map_err(refused)?;
        self.server.state().routes.register_topic(header.topic, &route.queue_datas).map_err(refused)?;
        Ok(Answer::Now(Response::success()))
    }

    /// The lists of topics.
    fn topics(&self, request: &Request<'_>, code: i32) -> Result<Answer, Refused> {
        let state = self.server.state();
        let is_allowed = match code {
            code::GET_ALL_TOPIC_LIST_FROM_NAMESERVER => state.config.enable_all_topic_list,
            _ => state.config.enable_topic_list,
        };
        if !is_allowed {
            return Err(Refused::new(response::SYSTEM_ERROR, "disable"));
        }
        let routes = &state.routes;
        let list: TopicList = match code {
            code::GET_ALL_TOPIC_LIST_FROM_NAMESERVER => routes.all_topics(),
            code::GET_TOPICS_BY_CLUSTER => {
                let header = header::Cluster::decode(&request.command.fields)?;
                header.cluster.map_or_else(TopicList::default, |cluster| routes.topics_of_cluster(cluster))
            }
            code::GET_SYSTEM_TOPIC_LIST_FROM_NS => routes.system_topics(),
            code::GET_UNIT_TOPIC_LIST => routes.unit_topics(),
            code::GET_HAS_UNIT_SUB_TOPIC_LIST => routes.unit_subscribed_topics(),
            code::GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST => routes.unit_subscribed_other_topics(),
            other => {
                let remark = format!(" request type {other} not supported");
                return Err(Refused::new(response::REQUEST_CODE_NOT_SUPPORTED, remark));
            }
        };
        drop(state);
        Ok(success(list.encode()))
    }

    /// All lines or none: a value that is not allowed refuses the whole change. Unknown keys are ignored, as in Java.
    fn update_config(&self, request: &Request<'_>) -> Result<Answer, Refused> {
        let Ok(text) = str::from_utf8(request.command.body) else {
            return Err(Refused::new(response::SYSTEM_ERROR, "the configuration is not UTF-8"));
        };
        let mut changes: Vec<(String, String)> =
            file::lines(text).into_iter().map(|line| (line.key, line.value)).collect();
        if changes.iter().any(|(key, _)| PATHS.contains(&key.as_str())) {
            return Err(Refused::new(response::NO_PERMISSION, "Can not update config path"));
        }
        let mut state = self.server.state();
        let mut config = state.config.clone();
        let mut wrong = None;
        changes.retain(|(key, value)| match config.take(key, value, Source::RunTime) {
            Ok(_) => true,
            Err(error @ KeyError::Unknown { .. }) => {
                tracing::warn!(%error, "a change of the configuration names a key that is unknown; ignored");
                false
            }
            Err(error) => {
                wrong = Some(error);
                false
            }
        });
        if let Some(error) = wrong {
            return Err(refused(error));
        }
        if changes.is_empty() {
            return Ok(Answer::Now(Response::success()));
        }
        state.config = config;
        state.config_text = file::rewrite(&state.config_text, &changes);
        drop(state);
        tracing::info!(?changes, "configuration changed");
        Ok(self.written(Which::Config))
    }

    fn config(&self) -> Answer {
        let entries = self.server.state().config.entries();
        let lines =
            entries.iter().filter(|entry| entry.is_listed).map(|entry| format!("{}={}\n", entry.key, entry.value));
        success(lines.collect::<String>().into_bytes())
    }
}
