//! Templates of managed secrets, as the catalogue has them.

use grantd_domain::evidence::Evidence;
use grantd_domain::template::{self, Template};
use grantd_wire::api::{self, ListQuery};
use grantd_wire::{Code, Error};

use super::{Request, page};
use crate::answer::{Answer, json as answer};
use crate::parse;

pub fn evidence(evidence: &Evidence) -> api::Evidence {
    api::Evidence {
        level: evidence.level.as_str().to_owned(),
        source: evidence.source.clone(),
        checked: evidence.checked.clone(),
    }
}

pub fn field(field: &template::Field) -> api::TemplateField {
    api::TemplateField {
        name: field.name.clone(),
        label: field.label.clone(),
        find: field.find.clone(),
        required: field.required,
        secret: field.secret,
        default: field.default.clone(),
        choices: field.choices.keys().cloned().collect(),
    }
}

fn view(template: &Template) -> api::SecretTemplate {
    api::SecretTemplate {
        id: template.id.clone(),
        name: template.name.clone(),
        category: template.category.clone(),
        credential_type: template.credential_type,
        value: template.value.clone(),
        fields: template.fields.iter().map(field).collect(),
        injection_header: template.injection.header.clone(),
        injection_format: template.injection.format.clone(),
        injections: template.injections().collect(),
        allowed_hosts: template.hosts.allow.clone(),
        probe: template.probe.as_ref().map(|probe| format!("{} {}", probe.method.as_str(), probe.url)),
        no_probe: template.no_probe.clone(),
        notes: template.notes.clone(),
        docs_url: template.docs.clone(),
        verified: template.is_verified(),
        evidence: api::TemplateEvidence {
            injection: evidence(&template.injection.evidence),
            hosts: evidence(&template.hosts.evidence),
            probe: template.probe.as_ref().map(|probe| evidence(&probe.evidence)),
        },
    }
}

pub fn list(request: &Request) -> Result<Answer, Error> {
    let query: ListQuery = request.query()?;
    let (limit, offset) = parse::page(query.limit, query.offset)?;
    let search = query.search.unwrap_or_default();
    let texts = |template: &'static Template| [&*template.id, &*template.name, &*template.category];
    let (items, total) = found(template::all(), texts, &search, limit, offset);
    Ok(page(items.into_iter().map(view).collect(), total, limit, offset))
}

/// A page of a catalogue's entries of which a text begins with `search`, and how many there are.
pub fn found<T>(
    all: &'static [T],
    texts: impl Fn(&'static T) -> [&'static str; 3],
    search: &str,
    limit: i64,
    offset: i64,
) -> (Vec<&'static T>, i64) {
    let search = search.to_lowercase();
    let is_found = |entry: &&'static T| texts(entry).iter().any(|text| text.to_lowercase().starts_with(&search));
    let found: Vec<&T> = all.iter().filter(is_found).collect();
    let at = |n: i64| usize::try_from(n).unwrap_or(usize::MAX);
    let total = i64::try_from(found.len()).unwrap_or(i64::MAX);
    (found.into_iter().skip(at(offset)).take(at(limit)).collect(), total)
}

pub fn show(request: &Request) -> Result<Answer, Error> {
    let id = parse::segment(&request.params[0]).unwrap_or_default();
    Ok(answer(200, &view(find(&id)?)))
}

/// The template with this id, or an error that says where the ids are.
pub fn find(id: &str) -> Result<&'static Template, Error> {
    template::find(id).ok_or_else(|| {
        Error::new(Code::NotFound)
            .message("There is no such template.")
            .hint("`grantd managed-secrets templates` lists them.")
    })
}
