//! The vendors that can be simulated: a line in each list below.

use std::str::FromStr;
use std::sync::Arc;

use super::house::House;
use super::plan::Mishap;
use super::vendor::{Manners, Simulated};
use super::{Error, Profile, Way, aliyun, feiyu, pbx, trtc, twilio, vcrtc, yunxin};

/// A vendor that can be simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VendorKind {
    Feiyu,
    Aliyun,
    Yunxin,
    Vcrtc,
    Trtc,
    Twilio,
    Freeswitch,
    Asterisk,
    Cdr,
}

impl VendorKind {
    #[rustfmt::skip]
    pub const ALL: &'static [Self] = &[
        Self::Feiyu,
        Self::Aliyun,
        Self::Yunxin,
        Self::Vcrtc,
        Self::Trtc,
        Self::Twilio,
        Self::Freeswitch,
        Self::Asterisk,
        Self::Cdr,
    ];

    /// The name on the command line, and the `kind` of the source it plays.
    pub fn name(self) -> &'static str {
        match self {
            Self::Feiyu => "feiyu",
            Self::Aliyun => "aliyun",
            Self::Vcrtc => "vcrtc",
            Self::Yunxin => "yunxin",
            Self::Trtc => "trtc",
            Self::Twilio => "twilio",
            Self::Freeswitch => "freeswitch",
            Self::Asterisk => "asterisk",
            Self::Cdr => "cdr",
        }
    }

    pub(super) fn build(self, house: Arc<House>) -> Arc<dyn Simulated> {
        match self {
            Self::Feiyu => Arc::new(feiyu::Feiyu::new(house)),
            Self::Aliyun => Arc::new(aliyun::Aliyun::new(house)),
            Self::Vcrtc => Arc::new(vcrtc::Vcrtc::new(house)),
            Self::Yunxin => Arc::new(yunxin::Yunxin::new(house)),
            Self::Trtc => Arc::new(trtc::Trtc::new(house)),
            Self::Twilio => Arc::new(twilio::Twilio::new(house)),
            Self::Freeswitch => Arc::new(pbx::Pbx::new(house, pbx::System::Freeswitch)),
            Self::Asterisk => Arc::new(pbx::Pbx::new(house, pbx::System::Asterisk)),
            Self::Cdr => Arc::new(pbx::Pbx::new(house, pbx::System::Cdr)),
        }
    }

    /// By which ways its messages can leave.
    pub fn ways(self) -> &'static [Way] {
        match self {
            Self::Freeswitch | Self::Asterisk => &[Way::Http, Way::Amqp],
            Self::Cdr => &[Way::Http, Way::Amqp, Way::Nats, Way::Folder],
            _ => &[Way::Http],
        }
    }

    pub(super) fn manners(self, profile: Profile, way: Way) -> Manners {
        match self {
            Self::Freeswitch => pbx::manners(pbx::System::Freeswitch, profile, way),
            Self::Asterisk => pbx::manners(pbx::System::Asterisk, profile, way),
            Self::Cdr => pbx::manners(pbx::System::Cdr, profile, way),
            Self::Feiyu => Manners {
                failures: &[Mishap::Gone, Mishap::NeverRecorded, Mishap::Unannounced],
                never: &[],
                queue: &[],
                expired_is_lost: false,
            },
            Self::Aliyun => aliyun::manners(profile),
            // No date and no code says that a recording is gone; it is asked for until somebody decides.
            Self::Vcrtc => Manners {
                failures: &[Mishap::NeverRecorded, Mishap::Unannounced],
                never: &[Mishap::OutOfOrder, Mishap::Gone],
                expired_is_lost: false,
                queue: &[],
            },
            // Media needs credentials and no signed address; what was not announced is in the list.
            Self::Twilio => Manners {
                failures: &[Mishap::Gone, Mishap::NeverRecorded],
                never: &[Mishap::LinkExpired, Mishap::Unannounced],
                expired_is_lost: false,
                queue: &[],
            },
            // Whatever was not announced can be asked for, so it is no failure that could be planned.
            Self::Yunxin => Manners {
                failures: &[Mishap::Gone],
                never: &[Mishap::NeverRecorded, Mishap::Unannounced],
                expired_is_lost: false,
                queue: &[],
            },
            // What is not announced is found by searching, so nothing stays unknown.
            Self::Trtc => Manners {
                failures: &[Mishap::Gone],
                never: &[Mishap::NeverRecorded, Mishap::Unannounced],
                expired_is_lost: false,
                queue: &[],
            },
        }
    }
}

/// All names, for messages.
pub(super) fn names() -> String {
    let names: Vec<&str> = VendorKind::ALL.iter().map(|kind| kind.name()).collect();
    names.join(", ")
}

impl FromStr for VendorKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let found = Self::ALL.iter().find(|kind| kind.name() == name);
        found
            .copied()
            .ok_or_else(|| Error::UnknownVendor(name.to_owned()))
    }
}
