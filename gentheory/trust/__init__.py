"""Can TIC be trusted for a net? Indicators, their thresholds fitted on a study, and the verdict."""

from gentheory.trust.diagnosis import Diagnosis, diagnose
from gentheory.trust.fitting import fit
from gentheory.trust.record import Thresholds, read

__all__ = ["Diagnosis", "Thresholds", "diagnose", "fit", "read"]
