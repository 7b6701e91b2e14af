//! The one suite that every store passes.
//!
//! A store runs it with [`conformance!`](crate::conformance!), which makes a test of each case. A case opens a fresh
//! store, steps through a few verbs, and looks at the answers; time is a number that it passes in. `random.rs` goes
//! further for the stores of this crate: it runs long random sequences against the model and another store at once.
#![allow(missing_docs, reason = "the name of a case is its sentence")]

pub mod accounts;
pub mod attempts;
pub mod catalogue;
pub mod deliveries;
pub mod endpoints;
pub mod events;
pub mod instance;
#[cfg(test)]
pub(crate) mod random;
pub mod secrets;
#[cfg(test)]
pub(crate) mod upgrades;
pub mod upkeep;
pub(crate) mod world;

pub use world::World;

/// Makes a test of each case. `$open` names an `async fn() -> (Arc<dyn Store>, impl Any)` that opens an empty store;
/// what it gives beside the store is kept until the case has ended. The crate that calls it has tokio with its macros.
#[macro_export]
macro_rules! conformance {
    ($open:ident) => {
        $crate::conformance! { @cases $open
            instance {
                identifiers_begin_at_one_and_are_handed_out_once
                the_first_key_check_is_kept
                a_key_check_is_replaced_by_whoever_knows_the_one_before
                every_ciphertext_is_found_and_replaced_by_whoever_knows_it
                a_store_is_healthy_and_its_own_changes_are_not_elsewhere
                each_life_has_a_lease_of_its_own
                a_life_that_knows_the_directory_may_sign
            }
            accounts {
                a_tenants_name_is_taken_once
                a_jwt_secret_is_replaced
                a_users_name_is_taken_once_in_the_instance
                a_user_is_disabled_in_its_own_tenant
                a_user_is_changed_in_its_own_tenant
                the_last_administrator_stays_where_the_change_says_so
                a_tenant_is_renamed_to_a_free_name
                a_token_is_found_by_its_hash_and_revoked_once
                a_token_acts_for_a_user_of_its_own_tenant
                nobody_belongs_to_a_tenant_that_is_not_there
                the_audit_log_tells_who_did_what_to_whom
                the_audit_log_is_paged_and_filtered
            }
            catalogue {
                a_catalogue_keeps_its_order
                a_retired_type_is_offered_again_where_it_stood
                tenants_have_catalogues_of_their_own
            }
            endpoints {
                an_endpoint_is_read_back_as_it_was_made
                a_subscription_that_stays_keeps_its_time
                a_change_leaves_out_what_it_does_not_name
                a_deleted_endpoint_is_seen_by_no_verb
                another_tenants_endpoint_is_as_if_it_were_not_there
                pages_are_ordered_and_ties_break_by_id
                a_search_folds_ascii_case_and_nothing_else
                identifiers_beyond_every_store_are_merely_unknown
            }
            secrets {
                a_reveal_is_written_down
                without_a_grace_the_old_secret_is_wiped_at_once
                with_a_grace_both_sign_and_the_newest_comes_first
                the_current_secret_comes_first_even_if_the_clock_was_set_back
                an_expiration_without_grace_ends_every_grace
                at_most_five_secrets_sign
                one_grace_is_ended_early_and_the_others_run_on
                live_secrets_are_listed_with_their_times
                a_secret_that_was_brought_along_is_told_apart
                a_secret_without_a_key_is_given_one_once
                another_tenants_secret_is_as_if_it_were_not_there
            }
            events {
                a_published_event_is_owed_to_its_endpoints
                a_fresh_delivery_may_begin_leased
                a_repeat_with_the_same_key_answers_as_the_first_time
                a_key_with_another_body_is_refused
                a_key_that_no_longer_counts_is_replaced
                tenants_have_keys_of_their_own
                nothing_is_owed_to_an_endpoint_that_is_gone
                an_event_is_published_once_or_not_at_all
                many_events_are_kept_in_one_go_in_their_order
                many_events_are_kept_all_or_none
                an_event_shows_where_its_deliveries_stand
                another_tenants_event_is_as_if_it_were_not_there
                a_resend_owes_an_event_once_more
                a_resend_is_all_or_none
                a_resend_is_refused_where_it_cannot_be_tried
            }
            deliveries {
                the_earliest_due_are_claimed_first_and_ties_break_by_id
                a_claim_stops_before_its_bytes_are_exceeded_but_takes_one
                an_inactive_endpoints_deliveries_wait
                a_retry_is_due_when_it_was_settled
                what_waits_is_brought_forward_and_no_further_than_now
                a_delivery_that_ended_is_owed_no_more
                a_lost_lease_records_nothing
                many_attempts_are_recorded_in_their_order_all_or_none
                nothing_is_recorded_for_a_deleted_endpoint
                what_is_given_back_is_due_when_it_was
                a_life_that_ended_leaves_its_deliveries_to_the_next
                a_new_life_takes_over_what_nobody_alive_has_leased
                a_gone_receiver_deactivates_its_endpoint_once
                the_earliest_due_time_of_each_endpoint_is_known
            }
            attempts {
                an_attempt_is_read_back_as_it_was_made
                pages_are_ordered_with_ties_and_nulls
                a_count_is_exact_on_every_page
                another_tenants_attempts_are_as_if_there_were_none
            }
            upkeep {
                old_lines_of_the_audit_log_go
                old_attempts_go_and_are_no_longer_counted
                an_event_stays_while_it_is_owed
                old_events_that_are_owed_hide_none_behind_them
                a_deleted_endpoint_leaves_nothing_behind
                keys_go_when_they_are_old
                a_grace_that_ran_out_is_wiped
                nothing_young_is_purged
            }
        }
    };
    (@cases $open:ident $($module:ident { $($case:ident)+ })+) => {$(
        mod $module {
            $(
                #[tokio::test]
                async fn $case() {
                    let (store, _kept) = super::$open().await;
                    $crate::conformance::$module::$case($crate::conformance::World::new(store)).await;
                }
            )+
        }
    )+};
}

#[cfg(test)]
mod tests {
    /// A case that the macro doesn't name would never run.
    #[test]
    fn every_case_is_named_in_the_macro() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/conformance");
        let named = include_str!("conformance.rs");
        for file in std::fs::read_dir(directory).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let cases = text.lines().filter_map(|line| line.strip_prefix("pub async fn "));
            for case in cases.filter_map(|line| line.split('(').next()) {
                assert!(named.contains(&format!(" {case}\n")), "{case} is not named");
            }
        }
    }
}
