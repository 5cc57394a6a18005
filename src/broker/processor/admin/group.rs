//! Consumer groups: made and changed (200, 225), removed (207), listed (201, 352), and which belong to which topic (300,
//! 343, 345).

use crate::{
    broker::{stats::Made, subscriptions::is_system},
    protocol::{
        body::{Body, GroupList, SubscriptionGroupConfig, SubscriptionGroupList, SubscriptionOfGroup, TopicList},
        code::response,
        command::Response,
        header::{DeleteSubscriptionGroup, Group, GroupAndTopic, Topic},
    },
    remoting::{Answer, Request},
};

use super::{Admin, Refused, filled, success};

impl Admin {
    pub(super) fn create_group(&self, asked: &Request<'_>) -> Result<Answer, Refused> {
        let group = SubscriptionGroupConfig::decode(asked.command.body)?;
        self.put_groups(vec![group])
    }

    pub(super) fn create_groups(&self, asked: &Request<'_>) -> Result<Answer, Refused> {
        self.put_groups(SubscriptionGroupList::decode(asked.command.body)?.group_config_list)
    }

    fn put_groups(&self, wanted: Vec<SubscriptionGroupConfig>) -> Result<Answer, Refused> {
        let is_system = wanted.iter().any(|group| is_system(&group.group_name));
        self.timed(Made::Group, is_system, self.try_put_groups(wanted))
    }

    fn try_put_groups(&self, wanted: Vec<SubscriptionGroupConfig>) -> Result<Answer, Refused> {
        let core = &self.0;
        for group in wanted {
            core.say_tool(|| format!("made or changed group {}", group.group_name));
            core.groups.put(group, core.now_ms(), core.config().groups_max).map_err(Refused::system)?;
        }
        Ok(self.groups_kept())
    }

    pub(super) fn delete_group(&self, asked: &Request<'_>) -> Result<Answer, Refused> {
        let header = DeleteSubscriptionGroup::decode(&asked.command.fields)?;
        let core = &self.0;
        if core.groups.remove(header.group_name, core.now_ms()) {
            core.say_tool(|| format!("removed group {}", header.group_name));
            core.stats.remove_group(header.group_name);
        }
        if header.remove_offset || header.clean_offset {
            core.offsets.remove_group(header.group_name);
        }
        Ok(self.groups_kept())
    }

    /// Success once the table as it stands survives a power cut.
    fn groups_kept(&self) -> Answer {
        if plant!(GroupNotAwaited) {
            return Answer::Now(Response::success());
        }
        let core = self.0.clone();
        Answer::Later(Box::pin(async move {
            Some(match core.groups.durable().await {
                Ok(()) => Response::success(),
                Err(failed) => Response::error(response::SERVICE_NOT_AVAILABLE, failed.to_string()),
            })
        }))
    }

    pub(super) fn all_groups(&self) -> Response {
        success(&self.0.groups.snapshot())
    }

    pub(super) fn group(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let header = Group::decode(&asked.command.fields)?;
        match self.0.groups.find(header.group) {
            Some(group) => Ok(success(&*group)),
            None => {
                let remark = format!("No group in this broker. group: {}", header.group);
                Err(Refused::new(response::SUBSCRIPTION_GROUP_NOT_EXIST, remark))
            }
        }
    }

    /// Groups that are online with the topic or have offsets in it.
    pub(super) fn groups_of_topic(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let header = Topic::decode(&asked.command.fields)?;
        let mut group_list: std::collections::BTreeSet<String> =
            self.0.clients.groups_of(header.topic).into_iter().collect();
        group_list.extend(self.0.offsets.groups_of(header.topic));
        Ok(success(&GroupList { group_list }))
    }

    pub(super) fn topics_of_group(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let header = Group::decode(&asked.command.fields)?;
        let topic_list = self.0.offsets.topics_of(header.group).into_iter().collect();
        Ok(success(&TopicList { broker_addr: Some(self.0.registration.advertised().to_owned()), topic_list }))
    }

    pub(super) fn subscription(&self, asked: &Request<'_>) -> Result<Response, Refused> {
        let header = GroupAndTopic::decode(&asked.command.fields)?;
        let topic = filled(header.topic);
        let known = topic.and_then(|topic| self.0.clients.subscription(header.group, topic));
        Ok(success(&SubscriptionOfGroup {
            group: header.group.to_owned(),
            subscription_data: known.and_then(|(_, subscription)| subscription).map(|subscription| subscription.data),
            topic: topic.map(str::to_owned),
        }))
    }
}
