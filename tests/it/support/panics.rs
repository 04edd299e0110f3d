//! The panic hook of the test process. It is installed once, before the first test, and never replaced.
//!
//! Tests run side by side, so a test that replaced the hook would also replace it for the others. [`for_this_thread`]
//! changes only what happens to the panics of the test's own thread.

use std::cell::RefCell;
use std::panic::PanicHookInfo;

/// A panic whose message begins like this is expected on every thread: thousands of them would hide an unexpected one.
const EXPECTED: &str = "expected";

type PanicHook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

thread_local! {
    static OF_THIS_THREAD: RefCell<Option<PanicHook>> = const { RefCell::new(None) };
}

pub fn install() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let is_handled = OF_THIS_THREAD.with_borrow(|hook| hook.as_ref().map(|hook| hook(panic)).is_some());
        let is_expected = panic.payload_as_str().is_some_and(|message| message.starts_with(EXPECTED));
        if !is_handled && !is_expected {
            usual(panic);
        }
    }));
}

/// Calls `hook` for the panics of this thread, instead of the usual one, until the result is dropped.
#[must_use]
pub fn for_this_thread(hook: impl Fn(&PanicHookInfo<'_>) + Send + Sync + 'static) -> OwnHook {
    OF_THIS_THREAD.set(Some(Box::new(hook)));
    OwnHook
}

/// For panics that a test provokes and catches.
#[must_use]
pub fn silent() -> OwnHook {
    for_this_thread(|_| ())
}

pub struct OwnHook;

impl Drop for OwnHook {
    fn drop(&mut self) {
        OF_THIS_THREAD.set(None);
    }
}
