// SPDX-License-Identifier: Apache-2.0
//! What is wrong with an object, where, and what to write instead.
//!
//! A problem names an object and a field path; file, line and caret are found from the object's
//! origin only when somebody looks ([`crate::crd::source`]). One mistake, one method on
//! [`Problems`], so that the wording of every message lives in this module.

use std::fmt;

use serde::Serialize;

use crate::name::{Kind, Ref};

/// How much a problem matters, most serious first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The object (or the named part of it) is refused.
    Error,
    /// A guard that cannot be enforced: the requests that it would have guarded get a 500.
    FailsClosed,
    /// Accepted, but something in it has no effect or not the effect that it seems to have.
    Warning,
    /// Worth knowing, nothing to do.
    Notice,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::FailsClosed => "fails-closed",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing wrong with one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Problem {
    /// The object that has to change.
    pub object: Ref,
    /// Where in the object, as `spec.headers["x-user"]` or `spec.labels.ambassador[0]`; empty for
    /// the object as a whole.
    pub path: String,
    pub severity: Severity,
    /// Stable CamelCase identifier of the mistake, fit for a status condition's `reason`.
    pub reason: &'static str,
    /// One sentence that says what is wrong, with the offending value.
    pub message: String,
    /// What to write instead, when that can be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.object)?;
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

/// The problems found so far, in the order found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

/// Mistakes in what was written, found while reading it.
impl Problems {
    fn decode(
        &mut self,
        object: &Ref,
        path: String,
        (severity, reason): (Severity, &'static str),
        message: String,
        help: Option<String>,
    ) {
        self.push(Problem { object: object.clone(), path, severity, reason, message, help });
    }

    pub(crate) fn wrong_type(
        &mut self,
        object: &Ref,
        path: String,
        expected: &str,
        found: &str,
        help: Option<String>,
    ) {
        let message = format!("expected {expected}, found {found}");
        self.decode(object, path, (Severity::Error, "WrongType"), message, help);
    }

    pub(crate) fn missing_field(&mut self, object: &Ref, path: String, name: &str) {
        let message = format!("the required field `{name}` is missing");
        self.decode(object, path, (Severity::Error, "MissingField"), message, None);
    }

    pub(crate) fn unknown_field(
        &mut self,
        object: &Ref,
        path: String,
        name: &str,
        near: Option<&str>,
    ) {
        let message = format!("unknown field `{name}` is ignored");
        let help = near.map(|near| format!("did you mean `{near}`?"));
        self.decode(object, path, (Severity::Warning, "UnknownField"), message, help);
    }

    pub(crate) fn dead_field(&mut self, object: &Ref, path: String, name: &str, why: &str) {
        let message = format!("`{name}` has no effect");
        self.decode(object, path, (Severity::Warning, "NoEffect"), message, Some(why.into()));
    }

    pub(crate) fn bad_choice(
        &mut self,
        object: &Ref,
        path: String,
        found: &str,
        choices: &[&str],
        near: Option<&str>,
    ) {
        let message = format!("`{found}` is not one of {}", choices.join(", "));
        let help = near.map(|near| format!("did you mean `{near}`?"));
        self.decode(object, path, (Severity::Error, "BadValue"), message, help);
    }

    pub(crate) fn bad_value(&mut self, object: &Ref, path: String, message: String) {
        self.decode(object, path, (Severity::Error, "BadValue"), message, None);
    }

    pub(crate) fn bad_base64(&mut self, object: &Ref, path: String) {
        self.bad_value(object, path, "the value is not base64".into());
    }

    pub(crate) fn module_without_meaning(&mut self, object: &Ref) {
        let message = format!("a Module named `{}` has no effect", object.name);
        let help = "the only Module that is read is named `ambassador`".to_owned();
        self.decode(object, String::new(), (Severity::Warning, "NoEffect"), message, Some(help));
    }
}

/// Mistakes between objects of a folder.
impl Problems {
    /// A second object of this kind, namespace and name; `first` is the place of the one that
    /// counts.
    pub fn duplicate_object(&mut self, object: &Ref, first: &str) {
        self.push(Problem {
            object: object.clone(),
            path: String::new(),
            severity: Severity::Error,
            reason: "Duplicate",
            message: format!("is written twice: the one at {first} counts, this one does not"),
            help: Some("give it another name, or delete one of them".into()),
        });
    }
}

/// Why a document, or an item of one, is not an object that anybody could name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    pub reason: &'static str,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Mistake {
    fn new(reason: &'static str, message: String, help: Option<String>) -> Self {
        Self { reason, message, help }
    }

    pub(crate) fn syntax(message: &str) -> Self {
        Self::new("Syntax", format!("the document does not parse: {message}"), None)
    }

    pub(crate) fn not_an_object(found: &str) -> Self {
        let help = "an object begins with `apiVersion:` and `kind:`".to_owned();
        Self::new("NotAnObject", format!("expected an object, found {found}"), Some(help))
    }

    pub(crate) fn no_kind() -> Self {
        let help = "an object begins with `apiVersion:` and `kind:`".to_owned();
        Self::new("NotAnObject", "the object has no `kind`".into(), Some(help))
    }

    pub(crate) fn unknown_kind(api_version: &str, kind: &str, near: Option<&str>) -> Self {
        let help = near.map(|near| {
            if near == kind {
                "the versions are getambassador.io/v3alpha1, v2 and v1".to_owned()
            } else {
                format!("did you mean `{near}`?")
            }
        });
        Self::new("UnknownKind", format!("there is no kind `{kind}` in {api_version}"), help)
    }

    pub(crate) fn not_in_an_annotation(kind: &str) -> Self {
        let message = format!("a {kind} cannot be written in an annotation");
        Self::new("NotInAnAnnotation", message, None)
    }

    pub(crate) fn no_name(kind: Kind) -> Self {
        Self::new("MissingName", format!("the {kind} has no `metadata.name`"), None)
    }

    pub(crate) fn bad_name(kind: Kind, found: &str) -> Self {
        Self::new("BadName", format!("the name of the {kind} is {found}, not a name"), None)
    }

    pub(crate) fn bad_namespace(kind: Kind, found: &str) -> Self {
        Self::new("BadName", format!("the namespace of the {kind} is {found}, not a name"), None)
    }
}

/// Mistakes in what was meant, found while resolving it.
impl Problems {
    fn say(
        &mut self,
        object: &Ref,
        path: &str,
        (severity, reason): (Severity, &'static str),
        message: String,
        help: impl Into<Option<&'static str>>,
    ) {
        let help = help.into().map(str::to_owned);
        let (object, path) = (object.clone(), path.to_owned());
        self.push(Problem { object, path, severity, reason, message, help });
    }

    fn advise(&mut self, help: String) {
        if let Some(problem) = self.0.last_mut() {
            problem.help = Some(help);
        }
    }

    // What is accepted, but does nothing yet.

    pub(crate) fn not_enforced_yet(&mut self, object: &Ref, path: &str, what: &str) {
        let message = format!("{what}: accepted, not enforced yet");
        self.say(object, path, (Severity::Warning, "NotEnforcedYet"), message, None);
    }

    pub(crate) fn not_served_yet(&mut self, object: &Ref, path: &str, what: &str) {
        let message = format!("{what}: accepted, not served yet");
        self.say(object, path, (Severity::Warning, "NotServedYet"), message, None);
    }

    pub(crate) fn consul_not_served(&mut self, object: &Ref, path: &str, name: &str) {
        let message =
            format!("the resolver `{name}` asks Consul, which is not served yet: requests get 503");
        self.say(object, path, (Severity::Warning, "NotServedYet"), message, None);
    }

    pub(crate) fn filter_not_served(&mut self, object: &Ref) {
        let message =
            "Filter: accepted, not served yet; what FilterPolicies guard with it gets 500";
        self.say(object, "", (Severity::Warning, "NotServedYet"), message.into(), None);
    }

    pub(crate) fn stack_not_served(&mut self, object: &Ref) {
        let message = "HTTP/3 is not served yet: this Listener is accepted and not bound";
        self.say(object, "", (Severity::Warning, "NotServedYet"), message.into(), None);
    }

    // What guards access fails closed.

    pub(crate) fn auth_fails_closed(&mut self, object: &Ref) {
        let message = "AuthService is not enforced yet: the requests that it guards get 500";
        let help = "`bypass_auth: true` on a Mapping takes it out of the guard";
        self.say(object, "", (Severity::FailsClosed, "NotEnforcedYet"), message.into(), help);
    }

    pub(crate) fn filter_policy_fails_closed(&mut self, object: &Ref) {
        let message = "FilterPolicy is not enforced yet: the requests that it guards get 500";
        self.say(object, "", (Severity::FailsClosed, "NotEnforcedYet"), message.into(), None);
    }

    pub(crate) fn ip_rules_fail_closed(&mut self, object: &Ref, path: &str) {
        let message = "IP rules are not enforced yet: every request gets 500";
        self.say(object, path, (Severity::FailsClosed, "NotEnforcedYet"), message.into(), None);
    }

    pub(crate) fn tls_guard_fails(&mut self, object: &Ref, path: &str, why: &str) {
        let message =
            format!("{why}: Hosts that ask for certificates by it answer 500, upstreams 503");
        self.say(object, path, (Severity::FailsClosed, "BadAuthorities"), message, None);
    }

    pub(crate) fn context_fails_closed(&mut self, object: &Ref, path: &str, name: &str) {
        let message = format!(
            "the TLSContext `{name}` cannot ask for client certificates: every request to this \
             Host gets 500"
        );
        self.say(object, path, (Severity::FailsClosed, "BadTLSContext"), message, None);
    }

    pub(crate) fn unknown_context_fails_closed(&mut self, object: &Ref, path: &str, name: &str) {
        let message = format!(
            "there is no TLSContext `{name}`, which may ask for client certificates: every \
             request to this Host gets 500"
        );
        self.say(object, path, (Severity::FailsClosed, "UnknownTLSContext"), message, None);
    }

    // Values.

    pub(crate) fn bad_regex(
        &mut self,
        object: &Ref,
        path: &str,
        error: &crate::policy::pattern::PatternError,
    ) {
        self.say(object, path, (Severity::Error, "BadRegex"), error.to_string(), None);
    }

    pub(crate) fn bad_substitution(
        &mut self,
        object: &Ref,
        path: &str,
        error: &crate::policy::rewrite::SubstitutionError,
    ) {
        self.say(object, path, (Severity::Error, "BadRegex"), error.to_string(), None);
    }

    pub(crate) fn bad_format(
        &mut self,
        object: &Ref,
        path: &str,
        error: &crate::policy::format::FormatError,
    ) {
        self.say(object, path, (Severity::Error, "BadFormat"), error.to_string(), None);
    }

    pub(crate) fn bad_header_name(&mut self, object: &Ref, path: &str, name: &str) {
        let message = format!("{name:?} is no header that can be edited");
        let help = "header names are tokens; use host_rewrite to change the Host";
        self.say(object, path, (Severity::Error, "BadHeaderName"), message, help);
    }

    pub(crate) fn framing_header(&mut self, object: &Ref, path: &str, name: &str) {
        let message = format!("`{name}` belongs to the connection: the edit has no effect");
        self.say(object, path, (Severity::Warning, "NoEffect"), message, None);
    }

    pub(crate) fn upgrade_to_h2c(&mut self, object: &Ref, path: &str) {
        let message = "`h2c` is never upgraded to: clients that speak HTTP/2 begin with it";
        self.say(object, path, (Severity::Warning, "NoEffect"), message.into(), None);
    }

    pub(crate) fn control_character(&mut self, object: &Ref, path: &str) {
        let message = "a control character would end the line that it is written into";
        self.say(object, path, (Severity::Error, "BadValue"), message.into(), None);
    }

    pub(crate) fn bad_duration(&mut self, object: &Ref, path: &str, text: &str) {
        let message = format!("{text:?} is no duration");
        self.say(
            object,
            path,
            (Severity::Error, "BadValue"),
            message,
            "write it as `3s` or `500ms`",
        );
    }

    pub(crate) fn out_of_bounds(
        &mut self,
        object: &Ref,
        path: &str,
        value: i64,
        min: i64,
        max: i64,
    ) {
        let message = format!("{value} is not from {min} to {max}");
        self.say(object, path, (Severity::Error, "BadValue"), message, None);
    }

    pub(crate) fn exclusive(&mut self, object: &Ref, path: &str, one: &str, other: &str) {
        let message = format!("`{one}` and `{other}` exclude each other");
        self.say(object, path, (Severity::Error, "Conflict"), message, "remove one of them");
    }

    // Services.

    pub(crate) fn bad_service(
        &mut self,
        object: &Ref,
        path: &str,
        text: &str,
        error: &dyn fmt::Display,
    ) {
        let message = format!("{text:?} is no service: {error}");
        self.say(
            object,
            path,
            (Severity::Error, "BadService"),
            message,
            "write it as `name.namespace:port`",
        );
    }

    pub(crate) fn service_excess(&mut self, object: &Ref, text: &str) {
        let message = format!("the path or query in {text:?} is ignored");
        let help = "change the path with `rewrite`";
        self.say(object, "spec.service", (Severity::Error, "BadService"), message, help);
    }

    pub(crate) fn unknown_scheme(&mut self, object: &Ref, text: &str, scheme: &str) {
        let message = format!("the scheme `{scheme}` of {text:?} is unknown and is ignored");
        let help = "use http:// or https://";
        self.say(object, "spec.service", (Severity::Error, "BadService"), message, help);
    }

    pub(crate) fn tls_beats_http(&mut self, object: &Ref, text: &str) {
        let message = format!("`tls` is set: TLS is used although the service is {text:?}");
        self.say(object, "spec.tls", (Severity::Warning, "Conflict"), message, None);
    }

    pub(crate) fn unknown_tls_context(&mut self, object: &Ref, path: &str, name: &str) {
        let message = format!("there is no TLSContext `{name}`");
        self.say(object, path, (Severity::Error, "UnknownTLSContext"), message, None);
    }

    pub(crate) fn unknown_resolver(&mut self, object: &Ref, path: &str, name: &str) {
        let message = format!("there is no resolver `{name}`");
        let help = "built in are kubernetes-service, kubernetes-endpoint and consul";
        self.say(object, path, (Severity::Error, "UnknownResolver"), message, help);
    }

    pub(crate) fn consul_name_with_dots(&mut self, object: &Ref, text: &str) {
        let message = format!("{text:?} has dots, which no name in Consul has");
        self.say(object, "spec.service", (Severity::Error, "BadService"), message, None);
    }

    pub(crate) fn no_such_port(&mut self, object: &Ref, host: &str, port: u16, ports: &str) {
        let message = format!("the Service `{host}` has no port {port}: requests get 503");
        self.say(object, "spec.service", (Severity::Error, "NoSuchPort"), message, None);
        if !ports.is_empty() {
            self.advise(format!("it has {ports}"));
        }
    }

    pub(crate) fn zero_connect_timeout(&mut self, object: &Ref) {
        let message = "a connect time-out of 0 lets nothing connect".to_owned();
        self.say(object, "spec.connect_timeout_ms", (Severity::Error, "BadValue"), message, None);
    }

    pub(crate) fn unknown_dns_type(&mut self, object: &Ref, text: &str) {
        let message = format!("{text:?} is neither strict_dns nor logical_dns");
        self.say(object, "spec.dns_type", (Severity::Error, "BadValue"), message, None);
    }

    // Mappings.

    pub(crate) fn hostname_beats_host(&mut self, object: &Ref) {
        let message = "`hostname` is used, `host` and the header :authority are ignored";
        self.say(object, "spec.hostname", (Severity::Warning, "Conflict"), message.into(), None);
    }

    pub(crate) fn star_in_exact_host(&mut self, object: &Ref, path: &str, text: &str) {
        let message = format!("{text:?} is matched exactly, and no host has a `*` in its name");
        self.say(
            object,
            path,
            (Severity::Error, "BadHostname"),
            message,
            "use `hostname` for globs",
        );
    }

    pub(crate) fn prefix_without_slash(&mut self, object: &Ref, prefix: &str) {
        let message = format!("no path begins with {prefix:?}");
        let help = "paths begin with a slash";
        self.say(object, "spec.prefix", (Severity::Warning, "NeverMatches"), message, help);
    }

    pub(crate) fn shadow_beats_redirect(&mut self, object: &Ref) {
        let message = "`shadow` is set: `host_redirect` is ignored".to_owned();
        self.say(object, "spec.host_redirect", (Severity::Error, "Conflict"), message, None);
    }

    pub(crate) fn redirect_field_without_host_redirect(&mut self, object: &Ref, path: &str) {
        let message = "has no effect without `host_redirect: true`".to_owned();
        self.say(object, path, (Severity::Warning, "NoEffect"), message, None);
    }

    pub(crate) fn several_redirects(&mut self, object: &Ref) {
        let message = "path_redirect, prefix_redirect and regex_redirect exclude each other";
        self.say(object, "spec", (Severity::Error, "Conflict"), message.into(), "keep one of them");
    }

    pub(crate) fn redirect_code(&mut self, object: &Ref, code: i64) {
        let message = format!("{code} is not one of 301, 302, 303, 307, 308");
        self.say(
            object,
            "spec.redirect_response_code",
            (Severity::Error, "BadValue"),
            message,
            None,
        );
    }

    pub(crate) fn regex_rewrite_beats_rewrite(&mut self, object: &Ref) {
        let message = "`regex_rewrite` is used, `rewrite` is ignored".to_owned();
        self.say(object, "spec.rewrite", (Severity::Notice, "Conflict"), message, None);
    }

    pub(crate) fn host_rewrite_beats_auto(&mut self, object: &Ref) {
        let message = "`host_rewrite` is used, `auto_host_rewrite` is ignored".to_owned();
        self.say(object, "spec.auto_host_rewrite", (Severity::Warning, "Conflict"), message, None);
    }

    pub(crate) fn missing_retry_on(&mut self, object: &Ref, path: &str) {
        let message = "a retry policy needs `retry_on`".to_owned();
        self.say(object, path, (Severity::Error, "MissingField"), message, None);
    }

    pub(crate) fn load_balancer_keys(
        &mut self,
        object: &Ref,
        path: &str,
        policy: &str,
        wanted: &str,
    ) {
        let message = format!("`{policy}` takes {wanted}");
        self.say(object, path, (Severity::Error, "BadValue"), message, None);
    }

    pub(crate) fn bad_cookie(&mut self, object: &Ref, path: &str, text: &str) {
        let message = format!("{text:?} cannot stand in a cookie: use letters, digits, - and _");
        self.say(object, path, (Severity::Error, "BadValue"), message, None);
    }

    pub(crate) fn bad_health_check(&mut self, object: &Ref, path: &str, why: &str) {
        let message = format!("this health check is skipped: {why}");
        self.say(object, path, (Severity::Error, "BadValue"), message, None);
    }

    pub(crate) fn bad_error_response(&mut self, object: &Ref, path: &str, why: &str) {
        let message = format!("this override is ignored: {why}");
        self.say(object, path, (Severity::Error, "BadValue"), message, None);
    }

    pub(crate) fn unknown_priority(&mut self, object: &Ref, text: &str) {
        let message = format!("{text:?} is neither DEFAULT nor HIGH and is ignored");
        self.say(object, "spec.priority", (Severity::Error, "BadValue"), message, None);
    }

    // Groups.

    pub(crate) fn second_shadow(&mut self, object: &Ref, first: &Ref) {
        let message = format!("requests of this match are already mirrored by {first}");
        self.say(object, "spec.shadow", (Severity::Error, "Conflict"), message, None);
    }

    pub(crate) fn nothing_to_copy(&mut self, object: &Ref) {
        let message = "gets no copies: no Mapping with this match forwards requests".to_owned();
        let help = "a shadow copies the requests of a Mapping with the same hostname, prefix, \
                    method, headers, query parameters and precedence";
        self.say(object, "spec.shadow", (Severity::Warning, "RoutedNowhere"), message, help);
    }

    pub(crate) fn redirect_in_group(&mut self, object: &Ref, first: &Ref) {
        let message = format!("requests of this match already go to {first}");
        let help = "a redirect shares no group: make one of the two matches more specific";
        self.say(object, "spec.host_redirect", (Severity::Error, "Conflict"), message, help);
    }

    pub(crate) fn route_in_redirect_group(&mut self, object: &Ref, first: &Ref) {
        let message = format!("requests of this match are already redirected by {first}");
        let help = "a redirect shares no group: make one of the two matches more specific";
        self.say(object, "spec.prefix", (Severity::Error, "Conflict"), message, help);
    }

    pub(crate) fn weight_out_of_range(&mut self, object: &Ref, weight: i64) {
        let message = format!("{weight} is no percentage from 0 to 100");
        self.say(object, "spec.weight", (Severity::Error, "BadWeight"), message, None);
    }

    pub(crate) fn weights_exceed(&mut self, object: &Ref, sum: i64) {
        let message =
            format!("the weights of this match sum to {sum}, what exceeds 100 is cut off");
        self.say(object, "spec.weight", (Severity::Error, "BadWeight"), message, None);
    }

    // Hosts and what they take.

    pub(crate) fn no_host(&mut self, object: &Ref) {
        let message = "routed nowhere: no Host is accepted".to_owned();
        self.say(object, "", (Severity::Warning, "RoutedNowhere"), message, None);
    }

    pub(crate) fn nothing_to_go_by(&mut self, object: &Ref, hostname: &str) {
        let message = "routed nowhere: it has no hostname, and no Host chooses it by its labels";
        self.say(object, "", (Severity::Warning, "RoutedNowhere"), message.into(), None);
        self.advise(format!(
            "write `hostname: \"{hostname}\"`, or `hostname: \"*\"` for every Host"
        ));
    }

    pub(crate) fn hostname_matches_no_host(&mut self, object: &Ref, glob: &str, hosts: &[&str]) {
        let message = format!("routed nowhere: no Host has a hostname that meets {glob:?}");
        self.say(object, "spec.hostname", (Severity::Warning, "RoutedNowhere"), message, None);
        self.advise(format!("there are Hosts for {}", hosts.join(", ")));
    }

    pub(crate) fn labels_match_no_host(&mut self, object: &Ref, host: &str, missing: &str) {
        let message = format!("routed nowhere: the Host `{host}` chooses by labels that it lacks");
        self.say(object, "metadata.labels", (Severity::Warning, "RoutedNowhere"), message, None);
        self.advise(format!("add the label {missing}"));
    }

    pub(crate) fn bad_hostname(&mut self, object: &Ref, text: &str) {
        let message = format!("{text:?} is no host name");
        let help = "a `*` stands first or last, or alone";
        self.say(object, "spec.hostname", (Severity::Error, "BadHostname"), message, help);
    }

    pub(crate) fn hostname_taken(&mut self, object: &Ref, hostname: &str, other: &Ref) {
        let message = format!("{hostname:?} is already served by {other}, which is older");
        self.say(object, "spec.hostname", (Severity::Error, "HostnameTaken"), message, None);
    }

    pub(crate) fn host_without_listener(&mut self, object: &Ref) {
        let message = "no Listener binds this Host".to_owned();
        let help = "widen a Listener's hostBinding";
        self.say(object, "", (Severity::Warning, "NoListener"), message, help);
    }

    pub(crate) fn context_has_other_secret(
        &mut self,
        object: &Ref,
        context: &str,
        theirs: (&str, &str),
        ours: (&str, &str),
    ) {
        let message = format!(
            "the TLSContext `{context}` has the Secret {}/{}, the Host {}/{}",
            theirs.0, theirs.1, ours.0, ours.1
        );
        self.say(object, "spec.tlsContext", (Severity::Error, "Conflict"), message, None);
    }

    pub(crate) fn tls_versions(&mut self, object: &Ref, path: &str, min: &str, max: &str) {
        let message = format!("no TLS version is at least {min} and at most {max}");
        self.say(object, path, (Severity::Error, "BadValue"), message, None);
    }

    pub(crate) fn unknown_secret(&mut self, object: &Ref, path: &str, namespace: &str, name: &str) {
        let message = format!("there is no Secret {namespace}/{name}: no TLS for it");
        self.say(object, path, (Severity::Error, "UnknownSecret"), message, None);
    }

    pub(crate) fn secret_without_key(&mut self, secret: &Ref, key: &str) {
        self.once(secret, "data", format!("it has no `{key}`"));
    }

    pub(crate) fn bad_secret(&mut self, secret: &Ref, key: &str, error: &crate::tls::Error) {
        self.once(secret, &format!("data[{key:?}]"), error.to_string());
    }

    /// Of all who use a Secret the first says what is wrong with it.
    fn once(&mut self, secret: &Ref, path: &str, message: String) {
        if !self.0.iter().any(|p| p.object == *secret && p.reason == "BadSecret") {
            self.say(secret, path, (Severity::Error, "BadSecret"), message, None);
        }
    }

    pub(crate) fn unusable_secret(&mut self, object: &Ref, path: &str, secret: &Ref) {
        // The fallback certificate has no user but itself.
        if object == secret {
            return;
        }
        let message =
            format!("the Secret {}/{} cannot be used: no TLS by it", secret.namespace, secret.name);
        self.say(object, path, (Severity::Warning, "BadSecret"), message, None);
    }

    pub(crate) fn no_certificate(&mut self, object: &Ref, path: &str) {
        let message = "it names no certificate: no TLS for it".to_owned();
        let help = "write tlsSecret: {name: …}";
        self.say(object, path, (Severity::Error, "NoCertificate"), message, help);
    }

    pub(crate) fn context_for_other_hosts(&mut self, object: &Ref, name: &str, hostname: &str) {
        let message = format!("the `hosts` of the TLSContext `{name}` lack {hostname:?}");
        self.say(object, "spec.tlsContext", (Severity::Warning, "Conflict"), message, None);
    }

    pub(crate) fn context_unusable(&mut self, object: &Ref, path: &str, name: &str) {
        let message = format!("the TLSContext `{name}` cannot be used: no TLS by it");
        self.say(object, path, (Severity::Warning, "BadTLSContext"), message, None);
    }

    pub(crate) fn context_unusable_for_upstream(&mut self, object: &Ref, name: &str) {
        let message =
            format!("the TLSContext `{name}` cannot be used: requests to this upstream get 503");
        self.say(object, "spec.tls", (Severity::Warning, "BadTLSContext"), message, None);
    }

    pub(crate) fn server_name_taken(&mut self, object: &Ref, name: &str, other: &Ref) {
        let message = format!(
            "TLS for {name:?} is already terminated for {other}, with another configuration: \
             no TLS for it"
        );
        let help = "give both Hosts one certificate and one TLSContext";
        self.say(object, "spec.hostname", (Severity::Error, "ServerNameTaken"), message, help);
    }

    pub(crate) fn needs_too(&mut self, object: &Ref, path: &str, one: &str, other: &str) {
        let message = format!("`{one}` needs `{other}` too");
        self.say(object, path, (Severity::Error, "MissingField"), message, None);
    }

    pub(crate) fn bad_tls_file(
        &mut self,
        object: &Ref,
        path: &str,
        file: &str,
        error: &dyn fmt::Display,
    ) {
        let message = format!("{file}: {error}");
        self.say(object, path, (Severity::Error, Self::BAD_FILE), message, None);
    }

    /// The reason of a certificate or key file that cannot be used.
    pub const BAD_FILE: &str = "BadFile";

    pub(crate) fn bad_tls_value(&mut self, object: &Ref, path: &str, error: &crate::tls::Error) {
        self.say(object, path, (Severity::Error, "BadValue"), error.to_string(), None);
    }

    pub(crate) fn old_tls_version(&mut self, object: &Ref, path: &str, version: &str) {
        let message = format!("{version} is not spoken: no version is left");
        let help = "TLS is spoken from v1.2 to v1.3";
        self.say(object, path, (Severity::Error, "BadValue"), message, help);
    }

    pub(crate) fn tls_version_raised(&mut self, object: &Ref, path: &str, version: &str) {
        let message = format!("{version} is not spoken: v1.2 is the least");
        self.say(object, path, (Severity::Warning, "NoEffect"), message, None);
    }

    pub(crate) fn unknown_tls_names(
        &mut self,
        object: &Ref,
        path: &str,
        unknown: &[Box<str>],
        known: &str,
    ) {
        let message = format!("not offered here, ignored: {}", unknown.join(", "));
        self.say(object, path, (Severity::Warning, "NoEffect"), message, None);
        self.advise(format!("there are {known}"));
    }

    // Listeners.

    pub(crate) fn no_listener(&mut self, namespace: &std::sync::Arc<str>, at_all: bool) {
        let object = Ref::new(Kind::Listener, std::sync::Arc::clone(namespace), "*");
        let what = if at_all { "nothing listens" } else { "only ports of TCPMappings listen" };
        let message = format!("there is no Listener: {what}");
        let help = "write one, or start with --default-listeners";
        self.say(&object, "", (Severity::Warning, "NoListener"), message, help);
    }

    pub(crate) fn no_protocol(&mut self, object: &Ref) {
        let message = "one of `protocol` and `protocolStack` must be written".to_owned();
        self.say(object, "spec", (Severity::Error, "MissingField"), message, None);
    }

    pub(crate) fn stack_beats_protocol(&mut self, object: &Ref) {
        let message = "`protocolStack` is used, `protocol` is ignored".to_owned();
        self.say(
            object,
            "spec.protocol",
            (Severity::Error, "Conflict"),
            message,
            "remove one of them",
        );
    }

    pub(crate) fn stack_end(&mut self, object: &Ref) {
        let message = "a protocol stack ends in TCP or UDP".to_owned();
        self.say(object, "spec.protocolStack", (Severity::Error, "BadStack"), message, None);
    }

    pub(crate) fn stack_repeats(&mut self, object: &Ref) {
        let message = "a protocol stands in the stack once at most".to_owned();
        self.say(object, "spec.protocolStack", (Severity::Error, "BadStack"), message, None);
    }

    pub(crate) fn udp_without_http(&mut self, object: &Ref) {
        let message = "UDP carries HTTP only".to_owned();
        let help = "write protocolStack: [TLS, HTTP, UDP]";
        self.say(object, "spec", (Severity::Error, "BadStack"), message, help);
    }

    pub(crate) fn empty_host_binding(&mut self, object: &Ref) {
        let message = "`hostBinding` needs `namespace` or `selector`".to_owned();
        let help = "write hostBinding: {namespace: {from: ALL}}";
        self.say(object, "spec.hostBinding", (Severity::Error, "MissingField"), message, help);
    }

    pub(crate) fn host_binding_without_from(&mut self, object: &Ref) {
        let message = "the required field `from` is missing".to_owned();
        let help = "write SELF or ALL";
        self.say(
            object,
            "spec.hostBinding.namespace",
            (Severity::Error, "MissingField"),
            message,
            help,
        );
    }

    pub(crate) fn host_binding_selector_is_self(&mut self, object: &Ref) {
        let message = "SELECTOR is not supported and acts as SELF".to_owned();
        self.say(
            object,
            "spec.hostBinding.namespace.from",
            (Severity::Error, "BadValue"),
            message,
            None,
        );
    }

    pub(crate) fn address_taken(
        &mut self,
        object: &Ref,
        address: std::net::SocketAddr,
        other: &Ref,
    ) {
        let message = format!("{address} is already taken by {other}");
        self.say(object, "spec.port", (Severity::Error, "AddressTaken"), message, None);
    }

    /// The reason of what can only be known where a listener is to be.
    pub const ADDRESS_NOT_BOUND: &str = "AddressNotBound";

    /// `error` is the kernel's.
    pub fn address_not_bound(&mut self, object: &Ref, address: std::net::SocketAddr, error: &str) {
        let message = format!("cannot listen on {address}: {error}");
        let help = "free the address, or write another port; it is tried again all the time";
        let verdict = (Severity::Error, Self::ADDRESS_NOT_BOUND);
        self.say(object, "spec.port", verdict, message, help);
    }

    pub(crate) fn listener_without_hosts(&mut self, object: &Ref) {
        let message = "disabled: it binds no Host".to_owned();
        let help = "widen its hostBinding, or write a Host that it binds";
        self.say(object, "spec.hostBinding", (Severity::Error, "NoHost"), message, help);
    }

    pub(crate) fn listener_without_tcp_mapping(&mut self, object: &Ref) {
        let message = "disabled: it carries no HTTP, and no TCPMapping has its port".to_owned();
        let help = "write a TCPMapping with its port, or add HTTP to its protocolStack";
        self.say(object, "spec.port", (Severity::Error, "NoTCPMapping"), message, help);
    }

    // TCPMappings.

    pub(crate) fn bad_address(&mut self, object: &Ref, path: &str, text: &str) {
        let message = format!("{text:?} is no IP address to listen on");
        self.say(object, path, (Severity::Error, "BadValue"), message, None);
    }

    pub(crate) fn bad_server_name(&mut self, object: &Ref, path: &str, text: &str) {
        let message = format!("{text:?} is no server name that a TLS client could send");
        let help = "write a host name without a port; a `*` stands first or last, or alone";
        self.say(object, path, (Severity::Error, "BadHostname"), message, help);
    }

    pub(crate) fn bad_milliseconds(&mut self, object: &Ref, path: &str, text: &str) {
        let message = format!("{text:?} is no number of milliseconds, the default is used");
        self.say(object, path, (Severity::Error, "BadValue"), message, "write it as \"30000\"");
    }

    pub(crate) fn tcp_takes_cleartext(&mut self, object: &Ref, listener: &Ref) {
        let message = format!("it has no host: all that comes to {listener} in cleartext is its");
        let help = "give it a port of its own, or a `host` to take one server name over TLS";
        self.say(object, "spec.port", (Severity::Warning, "TakesCleartext"), message, help);
    }

    pub(crate) fn tcp_host_without_tls(&mut self, object: &Ref, listener: &Ref) {
        let message =
            format!("its host is known from TLS only, which {listener} does not terminate");
        let help = "write protocol: TLS (or HTTPS) on the Listener, or remove `host`";
        self.say(object, "spec.host", (Severity::Error, "NoTLS"), message, help);
    }

    pub(crate) fn tcp_host_without_certificate(&mut self, object: &Ref, host: &str) {
        let message = format!("nothing terminates TLS for {host:?}: its connections are refused");
        self.say(object, "spec.host", (Severity::Error, "NoTLS"), message, None);
        self.advise(format!(
            "write a Host with a tlsSecret whose hostname meets {host:?}, or a TLSContext with hosts: [\"{host}\"]"
        ));
    }

    // The Module.

    pub(crate) fn second_module(&mut self, object: &Ref, first: &Ref) {
        let message = format!("ignored: {first} is the one that counts");
        self.say(object, "", (Severity::Error, "Conflict"), message, None);
    }

    pub(crate) fn log_format_type(&mut self, object: &Ref, path: &str, wanted: &str) {
        let message = format!("this envoy_log_type takes {wanted}; the default format is used");
        self.say(object, path, (Severity::Error, "WrongType"), message, None);
    }

    pub(crate) fn peer_or_remote(&mut self, object: &Ref, path: &str) {
        let message = "an IP rule has exactly one of `peer` and `remote`".to_owned();
        self.say(object, path, (Severity::Error, "BadValue"), message, None);
    }

    pub(crate) fn bad_cidr(&mut self, object: &Ref, path: &str, text: &str) {
        let message = format!("{text:?} is no address or CIDR block");
        self.say(object, path, (Severity::Error, "BadValue"), message, None);
    }

    // Ingresses and others.

    pub(crate) fn ingress_without_service(&mut self, object: &Ref, path: &str) {
        let message = "the backend names no Service: this path is not served".to_owned();
        self.say(object, path, (Severity::Error, "BadService"), message, None);
    }

    pub(crate) fn ingress_port(&mut self, object: &Ref, path: &str, service: &str, port: &str) {
        let message =
            format!("the Service `{service}` has no port named {port:?}: this path is not served");
        self.say(object, path, (Severity::Error, "NoSuchPort"), message, None);
    }

    pub(crate) fn protocol_version(&mut self, object: &Ref) {
        let message = "only version v3 of Envoy's protocols is spoken".to_owned();
        let help = "write protocol_version: v3";
        self.say(object, "spec.protocol_version", (Severity::Error, "BadValue"), message, help);
    }

    pub(crate) fn second_rate_limit_service(&mut self, object: &Ref) {
        let message = "with more than one RateLimitService none is used".to_owned();
        self.say(object, "", (Severity::Error, "Conflict"), message, None);
    }

    pub(crate) fn log_service_without_grpc(&mut self, object: &Ref) {
        let message = "a LogService speaks gRPC only".to_owned();
        self.say(object, "spec.grpc", (Severity::Error, "BadValue"), message, "write grpc: true");
    }

    pub(crate) fn tracing_driver(&mut self, object: &Ref, driver: &str) {
        let message = format!("the driver `{driver}` is no longer supported");
        let help = "use zipkin, datadog or opentelemetry";
        self.say(object, "spec.driver", (Severity::Error, "BadValue"), message, help);
    }
}
