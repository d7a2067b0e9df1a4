//! Which records rows become, and from which layouts.

use super::layout::Layout;
use crate::error::Result;
use crate::fields::Fields;
use crate::preference_record::PreferenceRecord;
use crate::prompt_record::PromptRecord;
use crate::record::ChatRecord;
use crate::unpaired_record::UnpairedRecord;

/// A record that a dataset can hold.
pub trait Record: Sized {
    /// What it is, for messages.
    const NAME: &'static str;
    /// The layouts that are recognised by their columns, in the order in which they are tried.
    const DETECTED: &'static [Layout];
    /// The layouts that hold it too, but only when the configuration names them.
    const ON_REQUEST: &'static [Layout];

    /// Adds the records of one row, whose fields have the names of the layout.
    ///
    /// # Errors
    /// [`crate::Error::Field`] with the field and what is wrong with it.
    fn from_row(fields: Fields, layout: Layout, records: &mut Vec<Self>) -> Result<()>;
}

impl Record for ChatRecord {
    const NAME: &'static str = "conversations";
    const DETECTED: &'static [Layout] = &[Layout::Messages, Layout::PromptCompletion];
    const ON_REQUEST: &'static [Layout] = &[Layout::Preference];

    fn from_row(fields: Fields, layout: Layout, records: &mut Vec<Self>) -> Result<()> {
        records.push(match layout {
            Layout::PromptCompletion => ChatRecord::from_prompt_and_completion(fields)?,
            Layout::Preference => PreferenceRecord::from_fields(fields)?.into_chosen(),
            _ => ChatRecord::from_fields(fields)?,
        });
        Ok(())
    }
}

impl Record for PreferenceRecord {
    const NAME: &'static str = "preference pairs";
    const DETECTED: &'static [Layout] = &[Layout::Preference];
    const ON_REQUEST: &'static [Layout] = &[];

    fn from_row(fields: Fields, _: Layout, records: &mut Vec<Self>) -> Result<()> {
        records.push(PreferenceRecord::from_fields(fields)?);
        Ok(())
    }
}

impl Record for UnpairedRecord {
    const NAME: &'static str = "judged answers";
    const DETECTED: &'static [Layout] = &[Layout::Unpaired];
    const ON_REQUEST: &'static [Layout] = &[Layout::Preference];

    fn from_row(fields: Fields, layout: Layout, records: &mut Vec<Self>) -> Result<()> {
        match layout {
            Layout::Preference => records.extend(PreferenceRecord::from_fields(fields)?.unpaired()),
            _ => records.push(UnpairedRecord::from_fields(fields)?),
        }
        Ok(())
    }
}

impl Record for PromptRecord {
    const NAME: &'static str = "prompts";
    const DETECTED: &'static [Layout] = &[Layout::Prompt, Layout::Messages];
    const ON_REQUEST: &'static [Layout] = &[Layout::Preference];

    fn from_row(mut fields: Fields, layout: Layout, records: &mut Vec<Self>) -> Result<()> {
        records.push(match layout {
            Layout::Preference => PreferenceRecord::from_fields(fields)?.prompt_record(),
            _ => {
                let field = if layout == Layout::Messages { "messages" } else { "prompt" };
                let prompt = fields.take_prompt(field)?.ok_or_else(|| fields.absent(field))?;
                PromptRecord { prompt, extra: fields.0 }
            }
        });
        Ok(())
    }
}
