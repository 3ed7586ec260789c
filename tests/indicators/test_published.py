"""Worked examples that others published: every printed number is theirs, none was computed here.

Most are the sheets that StockCharts gives with its definitions (chartschool.stockcharts.com, "Technical Indicators";
cs-rsi.xls and so on). The tests of the library `ta` (github.com/bukosabino/ta, test/data) keep them as text; other
holders are named where they are used. Each is compared to the digits that were printed.
"""

from __future__ import annotations

import numpy as np

from tradelib.indicators import (
    accumulation_distribution,
    atr,
    bollinger_bands,
    cci,
    ema,
    kama,
    mfi,
    obv,
    roc,
    rsi,
    sma,
    stochastic,
    stochastic_fast,
    true_range,
    ultimate_oscillator,
    williams_r,
)


def column(text: str) -> np.ndarray:
    return np.array(text.split(), dtype=np.float64)


def columns(text: str) -> list[np.ndarray]:
    """One array for each column of a table; `-` is a blank cell."""
    rows = [line.split() for line in text.strip().splitlines()]
    return list(np.array([[np.nan if cell == "-" else float(cell) for cell in row] for row in rows]).T)


def assert_printed(ours: np.ndarray, printed: np.ndarray, digits: int) -> None:
    """Equal to the last digit that was printed (one unit of it), and blank on the same bars."""
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(printed))
    np.testing.assert_allclose(ours, printed, rtol=0.0, atol=1.01 * 10.0**-digits)


def blanks_then(printed: np.ndarray, bars: int) -> np.ndarray:
    return np.concatenate([np.full(bars - len(printed), np.nan), printed])


# cs-rsi.xls, cs-stochrsi.xls: QQQQ, 2009-12-14 to 2010-02-01
QQQQ = column("""
    44.3389 44.0902 44.1497 43.6124 44.3278 44.8264 45.0955 45.4245 45.8433 46.0826 45.8931 46.0328 45.6140 46.2820
    46.2820 46.0028 46.0328 46.4116 46.2222 45.6439 46.2122 46.2521 45.7137 46.4515 45.7835 45.3548 44.0288 44.1783
    44.2181 44.5672 43.4205 42.6628 43.1314
""")


def test_rsi_of_the_sheet() -> None:
    """The fourth digit carries the rounding of the closes."""
    printed = column("""
        70.5328 66.3186 66.5498 69.4063 66.3552 57.9749 62.9296 63.2571 56.0593 62.3771 54.7076 50.4228 39.9898 41.4605
        41.8689 45.4632 37.3040 33.0795 37.7730
    """)
    assert_printed(rsi(QQQQ, 14), blanks_then(printed, len(QQQQ)), digits=3)


def test_stochastic_of_an_rsi_of_the_sheet() -> None:
    """Its RSI averages plainly, so its column is taken as it stands; the sheet counts from 0 to 1."""
    strength = column("""
        71.8621140 65.2484730 65.6146610 69.9241170 65.5036390 54.2305240 61.2822820 61.7281240 52.8795040 61.1072270
        52.2171510 47.4464880 36.3762260 38.1289900 38.6138330 42.8446310 34.4465170 30.2299850 35.4893260
    """)
    printed = 100 * column("0.0493933 0.0666989 0.1928111 0 0 0.1669731")
    assert_printed(stochastic_fast(strength, strength, strength, 14, 1).k, blanks_then(printed, 19), digits=5)


# cs-movavg.xls: INTC, 2010-03-24 to 2010-05-05; the averages as printed on the page
INTC = column("""
    22.2734 22.1940 22.0847 22.1741 22.1840 22.1344 22.2337 22.4323 22.2436 22.2933 22.1542 22.3926 22.3816 22.6109
    23.3558 24.0519 23.7530 23.8324 23.9516 23.6338 23.8225 23.8722 23.6537 23.1870 23.0976 23.3260 22.6805 23.0976
    22.4025 22.1725
""")


def test_simple_and_exponential_average_of_the_sheet() -> None:
    """The exponential one begins with the simple mean; also in the tests of TSanalysis.jl (github.com/cmmp)."""
    simple = column("""
        22.22 22.21 22.23 22.26 22.31 22.42 22.61 22.77 22.91 23.08 23.21 23.38 23.53 23.65 23.71 23.69 23.61 23.51
        23.43 23.28 23.13
    """)
    exponential = column("""
        22.22 22.21 22.24 22.27 22.33 22.52 22.80 22.97 23.13 23.28 23.34 23.43 23.51 23.54 23.47 23.40 23.39 23.26
        23.23 23.08 22.92
    """)
    assert_printed(sma(INTC, 10), blanks_then(simple, 30), digits=2)
    assert_printed(ema(INTC, 10), blanks_then(exponential, 30), digits=2)


def test_rate_of_change_of_the_sheet() -> None:
    """Dow Jones, twelve days, in percent; also in the tests of ta4j (ROCIndicatorTest)."""
    dow = column("""
        11045.27 11167.32 11008.61 11151.83 10926.77 10868.12 10520.32 10380.43 10785.14 10748.26 10896.91 10782.95
        10620.16 10625.83 10510.95 10444.37 10068.01 10193.39 10066.57 10043.75
    """)
    printed = column("-3.85 -4.85 -4.52 -6.34 -7.86 -6.21 -4.31 -3.24")
    assert_printed(roc(dow, 12), blanks_then(printed, 20), digits=2)


# cs-soo.xls: high, low, close (blank for thirteen days), %K of 14 days and %D of 3
SOO = columns("""
    127.0090 125.3574 -         -         -
    127.6159 126.1633 -         -         -
    126.5911 124.9296 -         -         -
    127.3472 126.0937 -         -         -
    128.1730 126.8199 -         -         -
    128.4317 126.4817 -         -         -
    127.3671 126.0340 -         -         -
    126.4220 124.8301 -         -         -
    126.8995 126.3921 -         -         -
    126.8498 125.7156 -         -         -
    125.6460 124.5615 -         -         -
    125.7156 124.5715 -         -         -
    127.1582 125.0689 -         -         -
    127.7154 126.8597 127.2876  70.438220 -
    127.6855 126.6309 127.1781  67.608909 -
    128.2228 126.8001 128.0138  89.202108 -
    128.2725 126.7105 127.1085  65.810552 74.207190
    128.0934 126.8001 127.7253  81.747713 78.920124
    128.2725 126.1335 127.0587  64.523797 70.694021
    127.7353 125.9245 127.3273  74.529776 73.600429
    128.7700 126.9891 128.7103  98.581442 79.211672
    129.2873 127.8148 127.8745  70.104533 81.071917
    130.0633 128.4715 128.5809  73.056091 80.580689
    129.1182 128.0641 128.6008  73.417791 72.192805
    129.2873 127.6059 127.9342  61.231290 69.235057
    128.4715 127.5960 128.1133  60.956271 65.201784
    128.0934 126.9990 127.5960  40.386102 54.191221
    128.6506 126.8995 127.5960  40.386102 47.242825
    129.1381 127.4865 128.6904  66.828549 49.200251
    128.6406 127.3970 128.2725  56.731420 54.648690
""")


def test_stochastic_of_the_sheet() -> None:
    """Fast %K; its %D is the slow %K. Where the sheet has no close, any will do: the low is taken."""
    high, low, close, printed_k, printed_d = SOO
    close = np.where(np.isnan(close), low, close)
    assert_printed(stochastic_fast(high, low, close, 14, 1).k, printed_k, digits=6)
    assert_printed(williams_r(high, low, close, 14), printed_k - 100.0, digits=6)
    for smoothed in (stochastic_fast(high, low, close, 14, 3).d, stochastic(high, low, close, 14, 3, 1).k):
        np.testing.assert_allclose(smoothed[16:], printed_d[16:], atol=1.01e-6)


# cs-cci.xls: high, low, close and CCI of 20 days
CCI = columns("""
    24.2013 23.8534 23.8932 -
    24.0721 23.7242 23.9528 -
    24.0423 23.6447 23.6745 -
    23.8733 23.3664 23.7839 -
    23.6745 23.4559 23.4956 -
    23.5851 23.1776 23.3217 -
    23.8037 23.3962 23.7540 -
    23.8036 23.5652 23.7938 -
    24.3007 24.0522 24.1417 -
    24.1516 23.7739 23.8137 -
    24.0522 23.5950 23.7839 -
    24.0622 23.8435 23.8634 -
    23.8833 23.6447 23.7044 -
    25.1356 23.9429 24.9567 -
    25.1952 24.7380 24.8771 -
    25.0660 24.7678 24.9616 -
    25.2151 24.8970 25.1753 -
    25.3741 24.9268 25.0660 -
    25.3642 24.9567 25.2747 -
    25.2648 24.9268 24.9964 102.3150
    24.8175 24.2112 24.4597 30.7360
    24.4398 24.2112 24.2808 6.5516
    24.6485 24.4299 24.6237 33.2964
    24.8374 24.4398 24.5815 34.9514
    24.7479 24.2013 24.5268 13.8401
    24.5094 24.2510 24.3504 -10.7478
    24.6784 24.2112 24.3404 -11.5821
    24.6684 24.1516 24.2311 -29.3472
    23.8435 23.6348 23.7640 -129.3557
    24.3007 23.7640 24.2013 -73.0696
""")


def test_commodity_channel_index_of_the_sheet() -> None:
    """The sheet computed with more digits of the prices than it printed: a price of 24.0000 moves the index by 0.01."""
    high, low, close, printed = CCI
    assert_printed(cci(high, low, close, 20), printed, digits=2)


# cs-mfi.xls: high, low, close, volume in thousands, and MFI of 14 days
MFI = columns("""
    24.8283 24.3205 24.7486 18730.144 -
    24.7586 24.5993 24.7088 12271.740 -
    25.1568 24.7785 25.0373 24691.414 -
    25.5848 24.9477 25.5450 18357.606 -
    25.6844 24.8083 25.0672 22964.080 -
    25.3360 25.0572 25.1070 15918.948 -
    25.2862 24.8482 24.8880 16067.044 -
    25.1269 24.7496 24.9975 16568.487 -
    25.2762 24.9278 25.0473 16018.729 -
    25.3857 25.0274 25.3360 9773.569 -
    25.5351 25.0473 25.0572 22572.712 -
    25.6048 25.0622 25.4455 12986.669 -
    25.7441 25.5351 25.5649 10906.659 -
    25.7242 25.4554 25.5550 5799.259 -
    25.6744 25.2862 25.4057 7395.274 49.46631
    25.4455 25.1667 25.3658 5818.162 45.10974
    25.3161 24.9178 25.0373 7164.726 36.27215
    25.2563 24.9079 24.9178 5672.914 28.40665
    25.0373 24.8283 24.8780 5624.742 31.52806
    25.0074 24.7088 24.9676 5023.469 33.86815
    25.3061 25.0274 25.0473 7457.091 41.30010
    25.1170 24.3404 24.4500 11798.009 42.80337
    24.6889 24.2708 24.5694 12366.132 31.83048
    24.5495 23.8925 24.0219 13294.865 23.76012
    24.2708 23.7780 23.8825 9256.870 26.50618
    24.2708 23.7232 24.2011 9690.604 24.07266
    24.5993 24.2011 24.2807 8870.318 22.38329
    24.4798 24.2409 24.3305 7168.965 22.17875
    24.5595 23.4345 24.4400 11356.180 21.53405
    25.1600 24.2700 25.0000 13379.374 30.83618
""")


def test_money_flow_index_of_the_sheet() -> None:
    high, low, close, volume, printed = MFI
    assert_printed(mfi(high, low, close, volume, 14), printed, digits=5)


# cs-ultosc.xls: high, low, close; the last two days have a value
ULTIMATE = columns("""
    57.9342 56.5199 57.5657
    58.4620 57.0677 57.6653
    57.7649 56.4403 56.9183
    59.8763 57.5258 58.4720
    59.0198 57.5756 58.7409
    60.1751 57.8943 60.0058
    60.2946 58.0139 58.4521
    59.8564 58.4322 59.1791
    59.7767 58.4521 58.6712
    59.7269 58.5816 58.8704
    59.5994 58.5417 59.2986
    62.9637 59.6173 62.5653
    62.2666 61.3602 62.0176
    63.0633 61.2507 62.0474
    63.7406 62.1869 62.5155
    62.7446 61.0216 62.3661
    63.4816 61.5694 63.4019
    63.2326 60.7926 61.8981
    62.1371 60.3444 60.5436
    60.5037 58.2031 59.0895
    59.8862 58.9102 59.0098
    60.3245 59.0905 59.3883
    59.7070 58.5915 59.2090
    62.2168 59.4401 59.6572
    59.7368 57.3267 59.0696
    59.9360 59.1094 59.8962
    59.6470 58.8714 59.2887
    59.3683 58.2429 59.1194
    60.2149 58.2628 59.6771
    61.6989 60.5834 61.4798
""")


def test_ultimate_oscillator_of_the_sheet() -> None:
    printed = blanks_then(column("53.397838 57.164680"), 30)
    assert_printed(ultimate_oscillator(*ULTIMATE, 7, 14, 28), printed, digits=6)


# cs-atr.xls: QQQQ: high, low, close, true range, average of 14 days; also in ibkr_core_mcp's tests
ATR = columns("""
    48.7000 47.7900 48.1600 0.9100 -
    48.7200 48.1400 48.6100 0.5800 -
    48.9000 48.3900 48.7500 0.5100 -
    48.8700 48.3700 48.6300 0.5000 -
    48.8200 48.2400 48.7400 0.5800 -
    49.0500 48.6350 49.0300 0.4150 -
    49.2000 48.9400 49.0700 0.2600 -
    49.3500 48.8600 49.3200 0.4900 -
    49.9200 49.5000 49.9100 0.6000 -
    50.1900 49.8700 50.1300 0.3200 -
    50.1200 49.2000 49.5300 0.9300 -
    49.6600 48.9000 49.5000 0.7600 -
    49.8800 49.4300 49.7500 0.4500 -
    50.1900 49.7250 50.0300 0.4650 0.555000
    50.3600 49.2600 50.3100 1.1000 0.593929
    50.5700 50.0900 50.5200 0.4800 0.585791
    50.6500 50.3000 50.4100 0.3500 0.568949
    50.4300 49.2100 49.3400 1.2200 0.615452
    49.6300 48.9800 49.3700 0.6500 0.617920
    50.3300 49.6100 50.2300 0.9600 0.642354
    50.2900 49.2000 49.2375 1.0900 0.674329
    50.1700 49.4300 49.9300 0.9325 0.692770
    49.3200 48.0800 48.4300 1.8500 0.775429
    48.5000 47.6400 48.1800 0.8600 0.781470
    48.3201 41.5500 46.5700 6.7701 1.209229
    46.8000 44.2833 45.4100 2.5167 1.302620
    47.8000 47.3100 47.7700 2.3900 1.380290
    48.3900 47.2000 47.7200 1.1900 1.366698
    48.6600 47.9000 48.6200 0.9400 1.336219
    48.7900 47.7301 47.8500 1.0599 1.316482
""")


def test_average_true_range_of_the_sheet() -> None:
    """The sheet counts the range of its first bar as a true one; so it is, after a close within that bar."""
    high, low, close, ranges, printed = ATR
    inputs = [np.concatenate([[value], prices]) for value, prices in ((48.0, high), (48.0, low), (48.0, close))]
    assert_printed(true_range(*inputs)[1:], ranges, digits=6)
    assert_printed(atr(*inputs, 14)[1:], printed, digits=6)


# cs-bbands.xls: SPY: close, and of 20 days mean, population standard deviation, bands; also in ibkr_core_mcp's tests
SPY = column("""
    86.1557 89.0867 88.7829 90.3228 89.0671 91.1453 89.4397 89.1750 86.9302 87.6752 86.9596 89.4299 89.3221 88.7241
    87.4497 87.2634 89.4985 87.9006 89.1260 90.7043 92.9001 92.9784 91.8021 92.6647 92.6843 92.3021 92.7725 92.5373
    92.9490 93.2039 91.0669 89.8318 89.7435 90.3994 90.7387 88.0177 88.0867 88.8439 90.7781 90.5416 91.3894 90.6500
""")


def test_bollinger_bands_of_the_sheet() -> None:
    printed = columns("""
        88.707940 91.291862 86.124018
        89.045160 91.949268 86.141052
        89.239745 92.612595 85.866895
        89.390705 92.934200 85.847210
        89.507800 93.311950 85.703650
        89.688660 93.728450 85.648870
        89.746500 93.899592 85.593408
        89.913140 94.266255 85.560025
        90.081255 94.565096 85.597414
        90.382195 94.786912 85.977478
        90.658630 95.043001 86.274259
        90.863995 94.907605 86.820385
        90.884090 94.902912 86.865268
        90.905160 94.895320 86.915000
        90.988925 94.861013 87.116837
        91.153375 94.673629 87.633121
        91.191090 94.556593 87.825587
        91.120500 94.678752 87.562248
        91.167665 94.575786 87.759544
        91.250270 94.534271 87.966269
        91.242135 94.532306 87.951964
        91.166600 94.369251 87.963949
        91.050180 94.148503 87.951857
    """)
    bands = bollinger_bands(SPY, 20, 2.0)
    for ours, values in zip((bands.middle, bands.upper, bands.lower), printed, strict=True):
        assert_printed(ours, blanks_then(values, len(SPY)), digits=6)


# cs-obv.xls: close, volume, on-balance volume; the first day has no volume
OBV = columns("""
    53.26 0 0
    53.30 8200 8200
    53.32 8100 16300
    53.72 8300 24600
    54.19 8900 33500
    53.92 9200 24300
    54.65 13300 37600
    54.60 10300 27300
    54.21 9900 17400
    54.53 10100 27500
    53.79 11300 16200
    53.66 12600 3600
    53.56 10700 -7100
    53.57 11500 4400
    53.94 23800 28200
    53.27 14600 13600
    53.60 11700 25300
    53.65 10400 35700
    53.62 9500 26200
    53.27 13900 12300
    53.44 10400 22700
    53.28 4200 18500
    53.14 10900 7600
    53.31 17600 25200
    54.09 17900 43100
    54.08 15800 27300
    54.01 10200 17100
    54.17 8700 25800
    54.24 16000 41800
    54.45 12500 54300
""")


def test_on_balance_volume_of_the_sheet() -> None:
    close, volume, printed = OBV
    np.testing.assert_array_equal(obv(close, volume), printed)


# cs-adl.xls: high, low, close, volume in thousands, accumulation distribution line
ADL = columns("""
    62.3400 61.3700 62.1500 7849.025 4774.1492
    62.0500 60.6900 60.8100 11692.075 -4854.6184
    62.2700 60.1000 60.4500 10575.307 -12018.5361
    60.7900 58.6100 59.1800 13059.128 -18248.5788
    59.9300 58.7120 59.2400 20733.508 -21006.2375
    61.7500 59.8600 60.2000 29630.096 -39975.7698
    60.0000 57.9700 58.4800 17705.294 -48784.8077
    59.0000 58.0200 58.2400 7259.203 -52784.7767
    59.0700 57.4800 58.6900 10474.629 -47316.8886
    59.2200 58.3000 58.6500 5203.714 -48561.2550
    58.7500 57.8276 58.4700 3422.865 -47216.4521
    58.6500 57.8600 58.0200 3962.150 -49573.6805
    58.4700 57.9100 58.1700 4095.905 -49866.2452
    58.2500 57.8333 58.0700 3766.006 -49353.8081
    58.3500 57.5300 58.1300 4239.335 -47389.2382
    59.8600 58.5800 58.9400 8039.979 -50906.7290
    59.5299 58.3000 59.1000 6956.717 -48813.3223
    62.1000 58.5300 61.9200 18171.552 -32474.1957
    62.1600 59.8000 61.3700 22225.894 -25128.3493
    62.6700 60.9300 61.6800 14613.509 -27144.0058
""")


def test_accumulation_distribution_of_the_sheet() -> None:
    high, low, close, volume, printed = ADL
    assert_printed(accumulation_distribution(high, low, close, volume), printed, digits=4)


# cs-kama.xls: close and Kaufman's average of 10 days, 2 and 30; the first is a close, the sheet's start
KAMA = columns("""
    110.46 -
    109.80 -
    110.17 -
    109.82 -
    110.15 -
    109.31 -
    109.05 -
    107.94 -
    107.76 -
    109.24 -
    109.40 109.244940
    108.50 109.216492
    107.96 109.117350
    108.55 109.098101
    108.85 109.089370
    110.44 109.124040
    109.89 109.137562
    110.70 109.276864
    110.79 109.436482
    110.22 109.456856
    110.00 109.465096
    109.27 109.461166
    106.69 109.390445
    107.07 109.316529
    107.92 109.292409
    107.95 109.183612
    107.70 109.077781
    107.97 108.949818
    106.09 108.422953
    106.03 108.015742
    107.65 107.996712
    109.54 108.006859
    110.26 108.259591
    110.38 108.481770
    111.94 108.911936
    113.59 109.673398
    113.98 110.494740
    113.91 111.107650
    112.62 111.462159
    112.20 111.609159
""")


def test_kaufmans_average_of_the_sheet() -> None:
    close, printed = KAMA
    assert_printed(kama(close, 10, 2, 30), printed, digits=6)
